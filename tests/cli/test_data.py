"""Looking at datasets, and writing imagined ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest

from atradiff.data.convert import convert, open_dataset
from atradiff.data.store import read_store
from atradiff.params.load import load_params
from atradiff.project.layout import Layout
from command_line import call
from projects import DATASET

OUT = "local/tiny/imagined-v0"


@pytest.fixture
def project(online_project: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(online_project.root / "minari"))
    monkeypatch.chdir(online_project.root)
    return online_project


def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert call(monkeypatch, *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_datasets_are_listed_and_told(project: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    listed = {dataset["id"]: dataset for dataset in ask(monkeypatch, capsys, "data", "list")}
    assert (listed[DATASET]["transitions"], listed[DATASET]["environment"]) == (1_000, "PointMaze_UMaze-v3")
    facts = ask(monkeypatch, capsys, "data", "show", DATASET)
    data = read_store(project.store)
    lengths, returns = data.episode_lengths, [t.rewards.sum() for t in data.trajectories()]
    assert facts["episodes"] == facts["trajectories"] == data.num_episodes
    assert facts["length"] == pytest.approx({"min": lengths.min(), "median": np.median(lengths), "mean": lengths.mean(), "max": lengths.max()})
    assert facts["return"]["mean"] == pytest.approx(np.mean(returns))
    assert facts["terminated_share"] == pytest.approx(data.episode_terminated.mean())
    assert facts["recipe"]["transitions"] == 1_000
    assert 0.5 < facts["coverage"]["maze_cells"] <= 1
    assert call(monkeypatch, "data", "show", DATASET) == 0
    assert "breadth-first search" in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "50")
    assert call(monkeypatch, "data", "list") == 0
    assert DATASET in capsys.readouterr().out
    assert call(monkeypatch, "data", "show", "local/none-v0") == 1


def test_a_dataset_is_drawn(project: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "dataset.svg"
    assert ask(monkeypatch, capsys, "data", "plot", DATASET, "--out", str(picture))["picture"] == str(picture)
    assert "return of an episode" in picture.read_text()
    assert call(monkeypatch, "data", "plot", DATASET, "--out", "dataset.pdf") == 1


def test_imagined_trajectories_are_a_dataset_like_the_one_they_learned_from(
    project: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ask(monkeypatch, capsys, "synthesize", "--count", "7", "--out", OUT, "--seed", "2")
    dataset = minari.load_dataset(OUT)
    assert (told["trajectories"], told["transitions"]) == (dataset.total_episodes, dataset.total_steps) == (7, told["transitions"])
    assert dataset.observation_space == minari.load_dataset(DATASET).observation_space
    assert dataset.recover_environment().spec.id == "PointMaze_UMaze-v3"  # type: ignore[union-attr]
    data, real = convert(open_dataset(OUT), lambda n: None), read_store(project.store)
    starts = data.states[data.episode_starts]
    assert all((real.states == start).all(axis=1).any() for start in starts)  # they begin where real transitions do
    assert (np.abs(data.actions) <= 1).all()
    note = ask(monkeypatch, capsys, "data", "show", OUT)["imagined_from"]
    assert (note["count"], note["starts"], note["seed"]) == (7, "offline", 2)
    assert note["data"] == json.loads(project.dataset.read_text())
    assert set(note["models_sha256"]) == {"denoiser 8", "denoiser 16", "length estimator"}
    monkeypatch.setenv("COLUMNS", "60")
    assert call(monkeypatch, "data", "show", OUT) == 0
    assert note["models_sha256"]["denoiser 8"] in re.sub(r"\s", "", capsys.readouterr().out)  # whole, if on two lines
    assert call(monkeypatch, "synthesize", "--out", OUT) == 1
    assert "is there already" in capsys.readouterr().err


def test_the_same_seed_imagines_the_same_and_resets_are_where_episodes_begin(
    project: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for name in ("a", "b"):
        out = f"local/tiny/{name}-v0"
        ask(monkeypatch, capsys, "synthesize", "--count", "3", "--out", out, "--starts", "reset")
        rows.append(convert(open_dataset(out), lambda n: None).rows)
    assert np.array_equal(*rows)
    start = np.asarray([-1.0, 1.0])  # of cell (1, 1)
    assert np.abs(rows[0][0, :2] - start).max() <= 0.25
    assert load_params(project.root / "params.yaml").task.environment.reset_options["reset_cell"] == [1, 1]
