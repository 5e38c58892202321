"""Where runs are found, and what they are called."""

from __future__ import annotations

from pathlib import Path

from atradiff.project.runs import OFFLINE_RUNS, run_name, run_names


def test_runs_in_subfolders_are_found_and_what_is_no_run_of_the_users_is_not(tmp_path: Path) -> None:
    found = ("b", "a-2", "demo-seed0/atradiff", "offline/tiny-iql-seed0")
    for name in (*found, "b/checkpoints/step-000000001", "studies/arms/maze/runs/c", ".d-half-written/d"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").touch()
    (tmp_path / "runs" / "empty").mkdir()
    assert run_names(tmp_path) == sorted(found)
    assert run_names(tmp_path, OFFLINE_RUNS) == ["tiny-iql-seed0"]
    assert run_names(tmp_path / "elsewhere") == []


def test_a_run_is_called_as_it_is_found(tmp_path: Path) -> None:
    for name in ("a", "demo-seed0/atradiff"):
        assert run_name(tmp_path, tmp_path / "runs" / name) == name
    assert run_name(tmp_path, tmp_path / "elsewhere" / "b") == "b"
