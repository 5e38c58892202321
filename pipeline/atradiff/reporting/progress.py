"""What the terminal shows of a run while it goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from atradiff.reporting.summary import Row, in_words, number, steps_of, unit_of

WIDE = 80
RATE_SECONDS = 5.0


class Status(NamedTuple):
    """What a run can tell at any moment, None where there is nothing to tell of: the synthetic share of the storage and the one asked for, and
    the env steps until the models adapt again."""

    gradient_steps: int
    imagined: int
    share: float | None
    share_asked: float | None
    adapts_in: int | None


class RateColumn(ProgressColumn):
    """Steps in a second, while there are any."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} steps/s" if task.speed else "", style="progress.data.speed")


class RunDisplay(Progress):
    """A bar, and below it what the run tells of itself; on a narrow terminal the bar gives way to a percentage, and the words are wrapped. A log gets
    none of it."""

    def __init__(self, console: Console, status: Callable[[], Status]) -> None:
        left = TimeRemainingColumn(compact=True)
        self._narrow = SpinnerColumn(), TaskProgressColumn(), RateColumn(), left
        self._wide = SpinnerColumn(), BarColumn(bar_width=None), MofNCompleteColumn(), RateColumn(), left
        self._screen, self._status = console, status
        self._told: deque[tuple[float, int]] = deque()
        self.phase, self.result = "", ""
        super().__init__(console=console, expand=True, disable=not console.is_terminal)

    def get_renderables(self) -> Iterable[RenderableType]:
        self.columns = self._wide if self._screen.width >= WIDE else self._narrow
        yield self.make_tasks_table(self.tasks)
        yield Padding(Text("  ·  ".join(self._facts(self._status())), style="dim"), (0, 0, 0, 2))

    def _facts(self, status: Status) -> Iterable[str]:
        yield from (fact for fact in (self.phase, self.result) if fact)
        yield f"{status.gradient_steps:,} updates, {self._updates_per_second(status.gradient_steps):,.0f}/s"
        if status.share is not None:
            yield f"{status.imagined:,} imagined"
            yield f"share {status.share:.1%} of {number(status.share_asked, '{:.0%}')}"
        if status.adapts_in is not None:
            yield f"adapts in {status.adapts_in:,}"

    def _updates_per_second(self, gradient_steps: int) -> float:
        """Over the last seconds, as the display itself sees them."""
        now = time.monotonic()
        self._told.append((now, gradient_steps))
        while now - self._told[0][0] > RATE_SECONDS:
            self._told.popleft()
        then, before = self._told[0]
        return (gradient_steps - before) / (now - then) if now > then else 0.0


class RunProgress:
    """Steps done, rates, the time left, the phase, the last success, the synthetic share and the next adaptation; each evaluation also leaves a
    line. `status` is asked a few times in a second, from the display's own thread."""

    def __init__(self, console: Console, steps: int, done: int, status: Callable[[], Status]) -> None:
        self._display = RunDisplay(console, status)
        self._warned = set[str]()
        self._task = self._display.add_task("", total=steps, completed=done)

    @property
    def console(self) -> Console:
        """Where others may print without tearing the display."""
        return self._display.console

    def __enter__(self) -> RunProgress:
        self._display.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._display.stop()

    def phase(self, description: str) -> None:
        self._display.phase = description

    def step(self, steps: int) -> None:
        self._display.update(self._task, completed=steps)

    def evaluated(self, row: Row) -> None:
        name, value = ("success", row["eval/success_rate"]) if row["eval/success_rate"] is not None else ("return", row["eval/return"])
        result = f"{name} {number(value, '{:.0%}' if name == 'success' else '{:.2f}')}"
        self._display.result = result
        self.console.print(f"{steps_of(row):>9,} {in_words(unit_of(row))}: {result}, {row['time/seconds']:,.0f} s", highlight=False)

    def stopping(self) -> None:
        """A signal has come, and the run ends as soon as it can."""
        self.console.print("[yellow]stopping[/]: the run ends soon and keeps everything; a second signal ends it at once", highlight=False, soft_wrap=True)

    def warn(self, name: str, text: str) -> None:
        """A line of warning, once for each name."""
        if name not in self._warned:
            self._warned.add(name)
            self.console.print(f"[yellow]{name}[/]: {text}", highlight=False, soft_wrap=True)
