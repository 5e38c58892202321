"""Carrying a study out: the offline stages of each workspace once, then the cells, several at a time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, Protocol

from atradiff.project.dvc_locks import make_ready
from atradiff.studies.cells import Cell
from atradiff.studies.processes import Runner
from atradiff.studies.runs import CellRun, find_run
from atradiff.studies.workspace import Workspace, workspace_of

REPRODUCE = (sys.executable, "-m", "dvc", "--wait-for-lock", "repro")


class Failure(NamedTuple):
    """A cell that did not end, what happened, and where to read more."""

    run: CellRun
    why: str
    log: Path


class Listener(Protocol):
    """Hears how the study gets on."""

    def preparing(self, workspace: Workspace, number: int, total: int) -> None: ...

    def running(self) -> None: ...

    def finished(self, run: CellRun) -> None: ...

    def failed(self, failure: Failure) -> None: ...


def find_runs(cells: Sequence[Cell], root: Path, study: str) -> list[CellRun]:
    """Every cell with the place of its run."""
    return [find_run(cell, workspace_of(cell, root, study)) for cell in cells]


def execute(runs: Sequence[CellRun], jobs: int, runner: Runner, listener: Listener) -> list[Failure]:
    """Run all that is not done, `jobs` cells at a time; returns what failed. The others go on."""
    pending = [run for run in runs if not run.done()]
    unready = _prepare(pending, runner, listener)
    failures = [Failure(run, "its offline stages failed", run.workspace.log) for run in pending if run.workspace.path in unready]
    for failure in failures:
        listener.failed(failure)
    listener.running()
    pool = ThreadPoolExecutor(jobs)
    try:
        begun = {pool.submit(_run, run, runner): run for run in pending if run.workspace.path not in unready}
        for future in as_completed(begun):
            run, why = begun[future], future.result()
            if why is None:
                listener.finished(run)
            else:
                failures.append(Failure(run, why, run.log))
                listener.failed(failures[-1])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return failures


def _prepare(pending: Sequence[CellRun], runner: Runner, listener: Listener) -> set[Path]:
    """Have every workspace of the cells ready, one after the other; returns those whose stages failed."""
    workspaces = {run.workspace.path: run.workspace for run in pending}
    unready: set[Path] = set()
    for number, (path, workspace) in enumerate(workspaces.items(), start=1):
        listener.preparing(workspace, number, len(workspaces))
        workspace.write()
        make_ready(path)
        if runner(REPRODUCE, path, workspace.log) != 0:
            unready.add(path)
    return unready


def _run(run: CellRun, runner: Runner) -> str | None:
    """Run one cell; returns what went wrong, if anything did."""
    code = runner(run.command(), run.workspace.path, run.log)
    if code != 0:
        return f"it ended with exit code {code}"
    return None if run.done() else "it ended before its last evaluation"
