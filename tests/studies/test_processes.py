"""Processes of a study: what they print is kept, and none outlives the study unnoticed."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from atradiff.errors import UserError
from atradiff.studies.processes import Processes, environment_of_runs, only_one

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]


def test_output_goes_to_the_log_and_the_exit_code_comes_back(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "log"
    with only_one(tmp_path / "study") as lock, Processes({**os.environ, "WORD": "hello"}, lock.fileno()) as run:
        assert run([sys.executable, "-c", "import os; print(os.environ['WORD'], os.getcwd())"], tmp_path, log) == 0
        assert run([sys.executable, "-c", "raise SystemExit('bad')"], tmp_path, log) == 1
    assert log.read_text().splitlines() == [f"hello {tmp_path}", "bad"]


def test_leaving_ends_what_still_runs(tmp_path: Path) -> None:
    codes: list[int] = []
    log = tmp_path / "log"
    with only_one(tmp_path) as lock:
        with Processes(os.environ, lock.fileno()) as run:
            thread = threading.Thread(target=lambda: codes.append(run(SLEEP, tmp_path, log)))
            thread.start()
            while not log.is_file() or "here" not in log.read_text():
                pass
        thread.join(10)
        assert codes == [-15]
        assert run(SLEEP, tmp_path, log) == -15, "nothing begins any more"


def test_the_lock_is_held_as_long_as_one_process_lives(tmp_path: Path) -> None:
    with only_one(tmp_path) as lock, Processes(os.environ, lock.fileno()) as run:
        thread = threading.Thread(target=lambda: run(SLEEP, tmp_path, tmp_path / "log"))
        thread.start()
        while not (tmp_path / "log").is_file() or "here" not in (tmp_path / "log").read_text():
            pass
        lock.close()
        with pytest.raises(UserError, match="runs already, or runs of it are still ending"), only_one(tmp_path):
            pass
    thread.join(10)
    with only_one(tmp_path):
        pass


def test_runs_find_our_programs_and_the_studys_server(tmp_path: Path) -> None:
    environment = environment_of_runs("http://127.0.0.1:1/api", tmp_path)
    assert environment["PATH"].split(os.pathsep)[0] == str(tmp_path)
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
