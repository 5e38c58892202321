"""The progress bar of a study."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from atradiff.studies.execute import Failure
from atradiff.studies.measures import measure
from atradiff.studies.runs import CellRun
from atradiff.studies.workspace import Workspace


class RateColumn(ProgressColumn):
    """Cells in an hour, and the time left, once this study has finished any: several end at once, so the mean since the first began tells most."""

    def render(self, task: Task) -> Text:
        done, seconds = task.completed - task.fields["before"], time.monotonic() - task.fields["since"]
        if not done or task.total is None:
            return Text("")
        left = timedelta(seconds=round((task.total - task.completed) * seconds / done))
        return Text(f"{3600 * done / seconds:,.1f} cells/h, {left} left", style="progress.data.speed")


class StudyProgress:
    """Cells done, their rate and the time left; every cell that ends leaves a line. Listens to `execute`."""

    def __init__(self, console: Console, cells: int, done: int) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("cells", total=cells, completed=done, before=done, since=time.monotonic())

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def preparing(self, workspace: Workspace, number: int, total: int) -> None:
        self._progress.update(self._task, description=f"offline stages {number}/{total}")
        self._tell(f"offline stages of {workspace.path.name}, log: {workspace.log}")

    def running(self) -> None:
        self._progress.update(self._task, description="cells", since=time.monotonic())

    def finished(self, run: CellRun) -> None:
        m = measure(run.folder.metrics(), run.env_steps, run.name)
        holds = "never holds 90 %" if m.holds_from is None else f"holds 90 % from {m.holds_from:,}"
        self._tell(f"{run.name}: regret {m.regret:,.0f}, {holds}, {m.seconds:,.0f} s")
        self._progress.advance(self._task)

    def failed(self, failure: Failure) -> None:
        self._tell(f"[red]failed[/]: {failure.run.name}: {failure.why}")

    def _tell(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, soft_wrap=True)
