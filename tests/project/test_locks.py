"""What killed stages leave behind does not stop the next ones."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dvc.exceptions import ReproductionError
from dvc.repo import Repo

from atradiff.project.dvc_locks import clear_killed, make_ready, remove_cut_off_record, remove_cut_off_runs
from atradiff.project.layout import Layout
from atradiff.project.stage_lock import alone

RECORD = """schema: '2.0'
stages:
  convert:
    cmd: atradiff convert
    outs:
    - path: data/maze/store.zarr
      hash: md5
      md5: b026324c6904b2a9cb4b88d6d61c81d1.dir
      size: 2
"""
STAGE = """stages:
  double:
    cmd: cat data data > twice
    deps: [data]
    metrics: [{twice: {cache: false}}]
"""
OTHER = """
import sys, time
from pathlib import Path
from atradiff.project.layout import Layout
from atradiff.project.stage_lock import alone
with alone(Layout(Path(sys.argv[1]), "maze"), "convert"):
    print("holds it", flush=True)
    time.sleep(60)
"""

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # of a library that DVC uses


@pytest.fixture
def rwlock(tmp_path: Path) -> Path:
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    return path


def entries(number: int) -> dict[str, Any]:
    about = {"pid": number, "cmd": "dvc repro"}
    return {"write": {"data/store.zarr": about}, "read": {"data/dataset.json": [about]}}


def test_who_is_there_stays_written_down(tmp_path: Path, rwlock: Path) -> None:
    rwlock.write_text(json.dumps(entries(os.getpid())))
    clear_killed(tmp_path)
    assert json.loads(rwlock.read_text()) == entries(os.getpid())


def test_who_is_gone_is_removed_though_another_has_its_number(tmp_path: Path, rwlock: Path) -> None:
    rwlock.write_text(json.dumps(entries(os.getpid())))
    os.utime(rwlock, (time.time() - 1e6,) * 2)  # before this process began
    clear_killed(tmp_path)
    assert json.loads(rwlock.read_text()) == {"write": {}, "read": {}}


def test_a_list_without_readers_is_whole(tmp_path: Path, rwlock: Path) -> None:
    rwlock.write_text('{"write": {}}')  # what DVC leaves where nobody reads any more
    clear_killed(tmp_path)
    assert json.loads(rwlock.read_text()) == {"write": {}, "read": {}}


@pytest.mark.parametrize("content", ["", '{"write": {"a"', "[]", '{"read": {}, "write": {"a": 3}}'])
def test_half_a_list_is_removed(tmp_path: Path, rwlock: Path, content: str) -> None:
    rwlock.write_text(content)
    clear_killed(tmp_path)
    assert not rwlock.exists()


def test_a_list_that_another_removes_meanwhile_is_no_error(tmp_path: Path, rwlock: Path) -> None:
    rwlock.write_text("{")
    with rwlock.with_name("rwlock.lock").open("a") as guard, ThreadPoolExecutor(1) as pool:
        fcntl.flock(guard, fcntl.LOCK_EX)
        cleared = pool.submit(clear_killed, tmp_path)
        time.sleep(0.2)
        rwlock.unlink()
        fcntl.flock(guard, fcntl.LOCK_UN)
        cleared.result()
    assert not rwlock.exists()


def test_nothing_is_made_where_there_is_no_list(tmp_path: Path) -> None:
    clear_killed(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut_at", [0, 5, 30, RECORD.index(" data/maze")])
def test_a_record_that_was_cut_off_is_removed(tmp_path: Path, cut_at: int) -> None:
    """Of such records DVC says that they are not valid."""
    (tmp_path / "dvc.lock").write_text(RECORD[:cut_at])
    remove_cut_off_record(tmp_path)
    assert not (tmp_path / "dvc.lock").exists()


def test_a_whole_record_stays(tmp_path: Path) -> None:
    remove_cut_off_record(tmp_path)
    (tmp_path / "dvc.lock").write_text(RECORD)
    remove_cut_off_record(tmp_path)
    assert (tmp_path / "dvc.lock").read_text() == RECORD


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A project whose one stage is in the run cache, but in no dvc.lock."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    for name, text in {".dvc/config": "[core]\n    analytics = false\n    no_scm = true\n", "dvc.yaml": STAGE, "data": "1"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    repo = Repo(str(tmp_path))
    repo.reproduce()
    (tmp_path / "dvc.lock").unlink()
    return repo


def entry_of(repo: Repo) -> Path:
    (entry,) = (Path(repo.root_dir) / ".dvc" / "cache" / "runs").glob("*/*/*")
    return entry


@pytest.mark.parametrize("left", ["a temporary file", "a cut-off entry", "an empty folder"])
def test_what_is_left_of_an_entry_in_the_run_cache_does_not_stop_dvc(repo: Repo, left: str) -> None:
    entry = entry_of(repo)
    whole = entry.read_text()
    entry.unlink()
    if left != "an empty folder":
        half = entry if left == "a cut-off entry" else entry.with_name(".AbC.tmp")
        half.write_text(whole[: whole.index("outs:")])
    os.utime(entry.parent, (time.time() - 10,) * 2)
    with pytest.raises(ReproductionError):
        repo.reproduce()
    make_ready(Path(repo.root_dir))
    repo.reproduce()
    assert entry_of(repo).read_text() == whole


def test_a_whole_entry_stays(repo: Repo) -> None:
    entry = entry_of(repo)
    remove_cut_off_runs(Path(repo.root_dir))
    assert entry_of(repo) == entry


def test_an_entry_that_is_being_written_is_waited_for(repo: Repo) -> None:
    entry = entry_of(repo)
    writing = entry.rename(entry.with_name(".AbC.tmp"))
    threading.Timer(0.3, writing.rename, [entry]).start()
    remove_cut_off_runs(Path(repo.root_dir))
    assert entry_of(repo) == entry


def test_a_stage_waits_for_one_that_outlived_its_parent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "holds it\n"
        threading.Timer(0.5, other.kill).start()
        with alone(Layout(tmp_path, "maze"), "convert"):
            assert other.wait(10) == -signal.SIGKILL
    assert capsys.readouterr().out == "waiting for another process that is at convert of maze\n"
