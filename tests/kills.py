"""Runs that are killed at random instants and gone on with, each in a process of its own."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from atradiff.flows.run_folder import RunFolder
from forks import fork
from same_runs import differences

CarryOut = Callable[[Path], None]
"""Begins the run in that folder, or goes on with it."""
WAITS_SECONDS = 0.0005
WRITES_SECONDS = 0.02


@dataclass
class Tally:
    """What happened: signals sent by name, those that came in the midst of a checkpoint, runs that came to their end, and what they had lost."""

    signals: dict[str, int] = field(default_factory=dict)
    in_checkpoint: int = 0
    runs: int = 0
    lost: list[str] = field(default_factory=list)


def kill_runs(
    carry_out: CarryOut,
    folder: Path,
    kills: int,
    seed: int,
    by: tuple[signal.Signals, ...] = (signal.SIGKILL,),
    note: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Carry runs out, kill each again and again at random instants until it comes to its end, until there have been so many kills.

    Every third kill waits until a checkpoint is being written. The runs that came to their end are compared with one that nobody killed.
    """
    drawn, tally = random.Random(seed), Tally()
    began = time.monotonic()
    finish(start(carry_out, folder / "whole"), folder / "whole")
    seconds = time.monotonic() - began
    while sum(tally.signals.values()) < kills:
        path, patience, reached = folder / f"killed-{tally.runs}", 1.0, set[Path]()
        while _kill(carry_out, path, drawn, patience * seconds, by[sum(tally.signals.values()) % len(by)], tally):
            note(tally)
            now = set(path.glob("checkpoints/step-*[0-9]"))
            reached, patience = now, 1.0 if now != reached else 1.5 * patience  # a machine may have become slower since
        tally.runs += 1
        tally.lost += [f"{path.name}: {lost}" for lost in differences(RunFolder(path), RunFolder(folder / "whole"))]
        note(tally)
    return tally


def _kill(carry_out: CarryOut, path: Path, drawn: random.Random, seconds: float, by: signal.Signals, tally: Tally) -> bool:
    """Whether the signal came before the run's end."""
    before = _half_written(path)  # of an earlier kill
    process = start(carry_out, path)
    if drawn.random() < 1 / 3:
        _wait_for_a_checkpoint(process, path, before, seconds)
        time.sleep(drawn.uniform(0, WRITES_SECONDS))
    else:
        time.sleep(drawn.uniform(0, seconds))
    os.kill(process, by)
    status = finish(process, path)
    if status == 0:
        return False
    tally.signals[by.name] = tally.signals.get(by.name, 0) + 1
    tally.in_checkpoint += bool(_half_written(path) - before)
    return True


def start(carry_out: CarryOut, path: Path) -> int:
    """A process that carries the run out; its number."""
    return fork(lambda: carry_out(path), path.with_suffix(".log"))


def finish(process: int, path: Path) -> int:
    """Its exit status, 0 at the run's end; whatever is neither that nor a signal is an error."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status not in (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT):
        raise RuntimeError(f"a run ended with {status}:\n{path.with_suffix('.log').read_text()[-3000:]}")
    return status


def _half_written(path: Path) -> set[tuple[str, int]]:
    """The folders of checkpoints that are being written or removed; of one name there may be several in turn."""
    found = [*path.glob("checkpoints/*.writing"), *path.glob("checkpoints/*.removing")]
    return {(folder.name, number) for folder in found if (number := _number(folder)) is not None}


def _number(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:  # renamed since
        return None


def _wait_for_a_checkpoint(process: int, path: Path, before: set[tuple[str, int]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not _half_written(path) - before and time.monotonic() < deadline and os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(WAITS_SECONDS)
