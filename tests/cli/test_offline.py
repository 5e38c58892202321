from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atradiff.params.load import load_params
from atradiff.params.presets import preset
from command_line import call
from projects import tiny_params, write_params

HEAVY = ("torch", "prefect", "minari", "matplotlib", "pydantic", "gymnasium", "zarr", "numpy")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    return tmp_path


def test_help_answers_at_once() -> None:
    """In a small part of the time that importing torch alone takes, and without any of the heavy libraries."""

    def seconds(*command: str | Path) -> float:
        before = os.times()
        subprocess.run(command, check=True, capture_output=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    torch_alone = min(seconds(sys.executable, "-c", "import torch") for _ in range(2))
    assert min(seconds(Path(sys.executable).parent / "atradiff", "--help") for _ in range(3)) < 0.5 * torch_alone
    code = f"import sys, atradiff.cli; sys.exit(str([name for name in {HEAVY} if name in sys.modules] or 0))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr.strip() in ("", "0"), done.stderr


def test_tasks_are_listed(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "tasks") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("pointmaze-umaze", "pointmaze-medium", "pointmaze-large"))


def test_use_writes_a_preset_and_shows_the_difference(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "use", "pointmaze-umaze") == 0
    assert load_params(folder / "params.yaml") == preset("pointmaze-umaze")
    capsys.readouterr()
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert call(monkeypatch, "use", "pointmaze-medium") == 0
    assert load_params(folder / "params.yaml") == preset("pointmaze-medium")
    out = capsys.readouterr().out
    assert "-  name: pointmaze-umaze" in out
    assert "+  name: pointmaze-medium" in out
    assert call(monkeypatch, "use", "pointmaze-medium") == 0
    assert "unchanged" in capsys.readouterr().out


def test_use_refuses_an_unknown_task_and_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "use", "pointmaze-giant") == 1
    assert capsys.readouterr().err.startswith("error: there is no task 'pointmaze-giant'")
    assert not (folder / "params.yaml").exists()


def test_use_refuses_a_folder_that_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "use", "pointmaze-umaze") == 1
    assert "go to the project's folder, a clone of the repository" in capsys.readouterr().err
    assert not (tmp_path / "params.yaml").exists()


def test_shown_params_are_a_params_file(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(folder, tiny_params())
    assert call(monkeypatch, "show-params", "--set", "agent.tau=0.5", "--set", "denoiser.horizons=[4, 8]") == 0
    (folder / "shown.yaml").write_text(capsys.readouterr().out)
    shown = load_params(folder / "shown.yaml")
    assert shown == load_params(folder / "params.yaml", ["agent.tau=0.5", "denoiser.horizons=[4, 8]"])


def test_an_algorithms_name_stands_for_its_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "algorithms") == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("sac", "td3", "redq", "rlpd", "droq", "dropout"))
    assert call(monkeypatch, "use", "pointmaze-umaze", "--algorithm", "redq") == 0
    assert load_params(folder / "params.yaml") == load_params(folder / "params.yaml", algorithm="redq")
    assert load_params(folder / "params.yaml").agent.num_critics == 10
    capsys.readouterr()
    assert call(monkeypatch, "show-params", "--algorithm", "droq", "--set", "agent.width=9") == 0
    (folder / "shown.yaml").write_text(capsys.readouterr().out)
    assert load_params(folder / "shown.yaml") == load_params(folder / "params.yaml", ["agent.width=9"], "droq")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show-params", "--set", "agent.tua=1"], "did you mean agent.tau?"),
        (["show-params", "--algorithm", "drok"], "there is no algorithm 'drok', did you mean droq"),
        (["train-denoiser", "--horizon", "9"], "horizon 9 is not in denoiser.horizons, [8, 16]"),
        (["train-length-estimator"], "no Zarr store at"),
        (["convert"], "'local/tiny/umaze-v0' is not on this machine"),
    ],
)
def test_a_mistake_is_told_in_one_red_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    write_params(folder, tiny_params())
    assert call(monkeypatch, *arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1


def test_outside_of_a_project_the_way_in_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "convert") == 1
    assert "go to the project's folder, a clone of the repository; `atradiff use TASK` writes one there" in capsys.readouterr().err
