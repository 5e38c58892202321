from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest
import torch

from atradiff.errors import UserError
from atradiff.flows.checkpoints import checkpoint_folders, latest_checkpoint, write_checkpoint
from atradiff.flows.run_folder import RunFolder, all_runs, new_run_path, newest_run_path, provenance
from atradiff.project.layout import Layout
from projects import online_params


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs" / "a", online_params(), "agent", 3, Layout(tmp_path, "tiny"))


def test_a_run_says_where_it_comes_from(folder: RunFolder) -> None:
    about = folder.about()
    assert (about["task"], about["arm"], about["seed"]) == ("tiny", "agent", 3)
    assert about["versions"]["torch"] == torch.__version__
    assert about["git_commit"] is None
    assert folder.params() == online_params()


def test_the_data_and_the_commit_are_named_where_they_are_known(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    layout.data.mkdir(parents=True)
    layout.dataset.write_text(json.dumps({"id": "local/x-v0", "sha256": "abc"}))
    (tmp_path / "code.py").write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "code.py"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    clean = provenance(layout)
    assert (clean["dataset"], clean["data_sha256"]) == ("local/x-v0", "abc")
    assert len(clean["git_commit"]) == 40
    (tmp_path / "code.py").write_text("2")
    assert provenance(layout)["git_commit"] == clean["git_commit"] + "-modified"


def test_an_existing_folder_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"runs/a exists: go on with it by --resume, or choose another with --run-dir"):
        RunFolder.create(folder.path, online_params(), "agent", 3, Layout(tmp_path, "tiny"))


def test_what_is_no_run_is_refused(tmp_path: Path, folder: RunFolder) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        RunFolder.open(tmp_path)
    (folder.path / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json cannot be read"):
        folder.about()
    (folder.path / "run.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="is not of format 1"):
        folder.about()


def test_metrics_come_back_as_they_were(folder: RunFolder) -> None:
    rows = [{"env_steps": 0, "eval/success_rate": None, "x": 0.1}, {"env_steps": 5, "eval/success_rate": 1 / 3, "x": 2}]
    for row in rows:
        folder.append_metrics(row)
    assert folder.metrics() == rows
    folder.drop_metrics_after(4)
    assert folder.metrics() == rows[:1]


def test_metrics_are_json_even_where_learning_explodes(folder: RunFolder) -> None:
    folder.append_metrics({"env_steps": 0, "agent/critic/loss": math.nan, "b": math.inf})
    assert json.loads(folder.metrics_file.read_text(), parse_constant=pytest.fail) == {"env_steps": 0, "agent/critic/loss": None, "b": None}


def test_a_last_line_cut_short_is_left_out_and_a_damaged_one_named(folder: RunFolder) -> None:
    folder.metrics_file.write_text('{"env_steps": 0}\n{"env_st')
    assert folder.metrics() == [{"env_steps": 0}]
    folder.metrics_file.write_text('{"env_st\n{"env_steps": 0}\n')
    with pytest.raises(UserError, match="is damaged in line 1"):
        folder.metrics()


def test_runs_are_numbered_and_the_newest_is_found(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    with pytest.raises(UserError, match="no run of tiny, arm agent, seed 0"):
        newest_run_path(tmp_path, "tiny", "agent", 0)
    for name in ("tiny-agent-seed0", "tiny-agent-seed0-2"):
        path = new_run_path(tmp_path, "tiny", "agent", 0)
        assert path == tmp_path / "runs" / name
        RunFolder.create(path, online_params(), "agent", 0, layout)
        assert newest_run_path(tmp_path, "tiny", "agent", 0) == path
    assert [run.name for run in all_runs(tmp_path)] == ["tiny-agent-seed0", "tiny-agent-seed0-2"]


# --- checkpoints -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_and_explains_itself(folder: RunFolder) -> None:
    path = write_checkpoint(folder, 7, {"env_steps": 7, "w": torch.arange(3.0)}, keep=2)
    assert path.name == "step-000000007"
    assert torch.equal(latest_checkpoint(folder, pytest.fail)["w"], torch.arange(3.0))
    manifest = json.loads((path / "manifest.json").read_text())
    assert {"versions", "seed", "arm", "env_steps", "data_sha256", "git_commit", "sha256"} <= manifest.keys()


def test_only_the_newest_are_kept(folder: RunFolder) -> None:
    for step in (1, 2, 3, 4):
        write_checkpoint(folder, step, {"env_steps": step}, keep=2)
    assert [path.name for path in checkpoint_folders(folder)] == ["step-000000003", "step-000000004"]
    assert latest_checkpoint(folder, pytest.fail) == {"env_steps": 4}


def test_what_a_crash_left_half_written_is_no_checkpoint(folder: RunFolder) -> None:
    write_checkpoint(folder, 1, {"env_steps": 1}, keep=2)
    (folder.path / "checkpoints" / "step-000000002.writing").mkdir()
    assert latest_checkpoint(folder, pytest.fail) == {"env_steps": 1}
    write_checkpoint(folder, 2, {"env_steps": 2}, keep=2)
    assert latest_checkpoint(folder, pytest.fail) == {"env_steps": 2}


def test_without_a_checkpoint_there_is_nothing_to_resume(folder: RunFolder) -> None:
    with pytest.raises(UserError, match="has no checkpoint to resume from"):
        latest_checkpoint(folder, pytest.fail)


@pytest.mark.parametrize("file", ["state.pt", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "missing", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(folder: RunFolder, file: str, damage: str) -> None:
    write_checkpoint(folder, 1, {"env_steps": 1}, keep=2)
    path = write_checkpoint(folder, 2, {"env_steps": 2, "w": torch.arange(1000.0)}, keep=2)
    content = (path / file).read_bytes()
    if damage == "missing":
        (path / file).unlink()
    else:
        (path / file).write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    warnings: list[str] = []
    assert latest_checkpoint(folder, warnings.append) == {"env_steps": 1}
    assert "step-000000002 is cut short or damaged" in warnings[0]
    assert len(warnings) == 1


def test_nothing_is_gone_on_from_where_all_checkpoints_are_damaged(folder: RunFolder) -> None:
    path = write_checkpoint(folder, 1, {"env_steps": 1}, keep=2)
    (path / "state.pt").write_bytes(b"")
    warnings: list[str] = []
    with pytest.raises(UserError, match=r"every checkpoint in .* is cut short or damaged"):
        latest_checkpoint(folder, warnings.append)
    assert len(warnings) == 1


def test_a_checkpoint_of_another_version_is_refused(folder: RunFolder) -> None:
    manifest = write_checkpoint(folder, 1, {"env_steps": 1}, keep=2) / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["state_format"]
    manifest.write_text(json.dumps(content))
    with pytest.raises(UserError, match="was written by another version of atradiff"):
        latest_checkpoint(folder, pytest.fail)
