"""A run beside the others in its folder: which of them are one curve, and which are left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atradiff.flows import arms
from atradiff.flows.arms import MOST_CURVES, RunSoFar, arms_picture, curves_of_arms
from atradiff.flows.run_folder import RunFolder
from atradiff.params.load import values_in
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from projects import online_params

UNIT = "env_steps"


def run(layout: Layout, path: Path, arm: Any, seed: int, params: Params | None = None, unit: str = UNIT) -> RunFolder:
    folder = RunFolder.create(path, params or online_params(), arm, seed, layout)
    for steps in (0, 100):
        folder.append_metrics({unit: steps, "eval/success_rate": 0.5, "eval/return": 0.5, "time/seconds": 1.0 + steps, "replay/synthetic_share": 0.0})
    return folder


@pytest.fixture
def folder(online_project: Layout, tmp_path: Path) -> RunFolder:
    """One of two seeds of an arm, beside another arm's."""
    run(online_project, tmp_path / "b", "atradiff", 1)
    run(online_project, tmp_path / "c", "rlpd", 0)
    return run(online_project, tmp_path / "a", "atradiff", 0)


def test_seeds_are_one_curve_within_a_band(folder: RunFolder) -> None:
    curves = curves_of_arms([RunSoFar.of(RunFolder(folder.path.parent / name)) for name in "abc"])
    assert {label: len(runs) for label, runs in curves.items()} == {"atradiff": 2, "rlpd": 1}
    ((path, draw),) = arms_picture(folder).items()
    draw(path)
    shown = path.read_text()
    assert "atradiff (mean of 2)" in shown
    assert "rlpd" in shown


def test_a_run_alone_or_among_too_many_has_no_such_picture(online_project: Layout, tmp_path: Path) -> None:
    alone = run(online_project, tmp_path / "0", "atradiff", 0)
    assert arms_picture(alone) == {}
    for number in range(1, MOST_CURVES + 1):
        params = online_params()
        run(online_project, tmp_path / str(number), "atradiff", 0, replace(params, agent=replace(params.agent, tau=number / 100)))
    assert arms_picture(alone) == {}


def test_settings_that_many_runs_share_are_read_once(online_project: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, read = online_params(), list[Path]()
    of_this_test = replace(params, agent=replace(params.agent, tau=0.0123))  # whatever another test has read does not count
    first, *_ = [run(online_project, tmp_path / str(seed), "atradiff", seed, of_this_test) for seed in range(5)]
    monkeypatch.setattr(arms, "values_in", lambda text, path: read.append(path) or values_in(text, path))
    assert [len(arms_picture(first)) for _ in range(3)] == [1, 1, 1]
    assert len(read) == 1


def test_what_is_not_its_like_or_cannot_be_read_is_left_out(folder: RunFolder, online_project: Layout) -> None:
    params, beside = online_params(), folder.path.parent
    run(online_project, beside / "other-task", "rlpd", 0, replace(params, task=replace(params.task, name="other")))
    run(online_project, beside / "other-steps", "rlpd", 0, unit="gradient_steps")
    RunFolder.create(beside / "not-evaluated", params, "rlpd", 0, online_project)
    (run(online_project, beside / "damaged", "rlpd", 0).path / "run.json").write_text("{")
    (beside / "no-run").mkdir()
    ((path, draw),) = arms_picture(folder).items()
    draw(path)
    assert "rlpd (mean of" not in path.read_text()
