from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from atradiff.errors import UserError
from atradiff.flows.run_folder import RunFolder, new_run_path, newest_run_path, provenance
from atradiff.flows.run_lock import RunLock
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
    names = [[id(name) for name in row] for row in folder.metrics()]
    assert names[0] == names[1], "a long run's lines should share their names' memory"
    folder.keep_metrics(1)
    assert folder.metrics() == rows[:1]
    with pytest.raises(UserError, match=r"metrics.jsonl has 1 lines, its checkpoint knows of 2: put the missing lines back"):
        folder.keep_metrics(2)


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


def test_what_a_full_disk_does_is_told_in_a_sentence(folder: RunFolder) -> None:
    folder.metrics_file.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"a line of .*metrics.jsonl cannot be written \(No space left on device\): mend that, and go on with --resume"):
        folder.append_metrics({"env_steps": 0})


def test_two_runs_do_not_share_a_folder(folder: RunFolder) -> None:
    lock = RunLock(folder.path)
    with pytest.raises(UserError, match=rf"is being carried out by process {os.getpid()} on {socket.gethostname()}: wait until that has ended"):
        RunLock(folder.path)
    lock.release()
    RunLock(folder.path).release()


def test_the_lock_of_a_killed_process_locks_nothing(folder: RunFolder) -> None:
    code = f"import os; from pathlib import Path; from atradiff.flows.run_lock import RunLock; RunLock(Path({str(folder.path)!r})); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -9
    assert json.loads((folder.path / "lock").read_text())["process"] != os.getpid()
    RunLock(folder.path).release()
