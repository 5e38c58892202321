"""What killed stages leave behind does not stop the next ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from atradiff.project.dvc_locks import clear_killed, remove_cut_off_record
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
OTHER = """
import sys, time
from pathlib import Path
from atradiff.project.layout import Layout
from atradiff.project.stage_lock import alone
with alone(Layout(Path(sys.argv[1]), "maze"), "convert"):
    print("holds it", flush=True)
    time.sleep(60)
"""


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


@pytest.mark.parametrize("content", ["", '{"write": {"a"', "[]", '{"read": {}, "write": {"a": 3}}'])
def test_half_a_list_is_removed(tmp_path: Path, rwlock: Path, content: str) -> None:
    rwlock.write_text(content)
    clear_killed(tmp_path)
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


def test_a_stage_waits_for_one_that_outlived_its_parent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "holds it\n"
        threading.Timer(0.5, other.kill).start()
        with alone(Layout(tmp_path, "maze"), "convert"):
            assert other.wait(10) == -signal.SIGKILL
    assert capsys.readouterr().out == "waiting for another process that is at convert of maze\n"
