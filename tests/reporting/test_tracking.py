"""Trackers, with their libraries stood in for, as they are extras, and the libraries themselves where they are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from atradiff.errors import UserError
from atradiff.reporting.tracking import TRACKERS, tracking

METRICS = {"env_steps": 100, "eval/success_rate": 0.5}


class Recorder:
    """A library whose run is itself: what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def init(self, **settings: Any) -> Recorder:
        self.told.append(("init", settings))
        return self

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.told.append(("log", {**metrics, "step": step}))

    def finish(self) -> None:
        self.told.append(("finish", {}))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_hears_the_settings_every_evaluation_and_the_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Recorder()
    monkeypatch.setitem(sys.modules, name, library)  # type: ignore[arg-type]
    with tracking([name], tmp_path, "maze-agent-seed0", {"agent": {"tau": 0.1}}) as trackers:
        trackers[0].log(METRICS, 100)
    assert [kind for kind, _ in library.told] == ["init", "log", "finish"]
    assert library.told[0][1]["name"] == "maze-agent-seed0"
    assert library.told[0][1]["config"] == {"agent": {"tau": 0.1}}
    assert library.told[1][1] == {**METRICS, "step": 100}


def test_every_tracker_is_closed_though_the_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = {name: Recorder() for name in ("wandb", "trackio")}
    for name, library in libraries.items():
        monkeypatch.setitem(sys.modules, name, library)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt), tracking(list(libraries), tmp_path, "run", {}):
        raise KeyboardInterrupt
    assert all(library.told[-1][0] == "finish" for library in libraries.values())


@pytest.mark.parametrize("name", list(TRACKERS))
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch.utils.tensorboard", "wandb", "trackio"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"--track {name} needs the extra \[{name}\]"), tracking([name], tmp_path, "run", {}):
        pass


def test_tensorboard_gets_each_number_at_its_env_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []
    writer = SimpleNamespace(add_scalar=lambda *told: written.append(told), flush=lambda: None, close=lambda: written.append(("closed", 0, 0)))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=lambda folder: writer))  # type: ignore[arg-type]
    with tracking(["tensorboard"], tmp_path, "run", {}) as trackers:
        trackers[0].log(METRICS, 100)
    assert written == [("env_steps", 100, 100), ("eval/success_rate", 0.5, 100), ("closed", 0, 0)]


def test_tensorboard_itself_reads_what_was_sent(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs the extra [tensorboard]")
    for env_steps, value in ((100, 0.5), (200, 0.75)):  # the second as --resume does
        with tracking(["tensorboard"], tmp_path, "run", {}) as trackers:
            trackers[0].log({"eval/return": value}, env_steps)
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("eval/return")] == [(100, 0.5), (200, 0.75)]


TRACK = """
import sys
from pathlib import Path
from atradiff.reporting.tracking import tracking
tracker, folder, value, env_steps = sys.argv[1:]
with tracking([tracker], Path(folder), "maze-agent-seed0", {"agent": {"tau": 0.1}}) as trackers:
    trackers[0].log({"eval/success_rate": float(value)}, int(env_steps))
"""


def require(library: str) -> None:
    """Skip the test where it is not installed; it is not imported here."""
    if find_spec(library) is None:
        pytest.skip(f"needs the extra [{library}]")


def track(tracker: str, folder: Path, value: float, env_steps: int, **environment: str) -> None:
    """In a process of its own, as such a library changes the streams and the logging of whoever imports it, and may end its writing at the process's end."""
    command = [sys.executable, "-c", TRACK, tracker, str(folder), str(value), str(env_steps)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("times", [1, 2])
def test_wandb_itself_writes_into_the_runs_folder_and_sends_nothing(tmp_path: Path, times: int) -> None:
    require("wandb")
    for _ in range(times):  # the second time as --resume does
        track("wandb", tmp_path, 0.5, 100, WANDB_MODE="offline")
    written = list(tmp_path.glob("wandb/offline-run-*/run-maze-agent-seed0.wandb"))
    assert 1 <= len(written) <= times
    assert all(b"eval/success_rate" in file.read_bytes() for file in written)


def test_trackio_itself_keeps_each_number_and_goes_on_under_the_same_name(tmp_path: Path) -> None:
    require("trackio")
    kept = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    for value, env_steps in ((0.5, 100), (0.75, 200)):
        track("trackio", tmp_path, value, env_steps, **kept)
    code = """
from trackio.sqlite_storage import SQLiteStorage
print([(row["step"], row["eval/success_rate"]) for row in SQLiteStorage.get_logs("atradiff", "maze-agent-seed0")])
"""
    told = subprocess.run([sys.executable, "-c", code], env=os.environ | kept, capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "[(100, 0.5), (200, 0.75)]"
