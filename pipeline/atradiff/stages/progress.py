"""The progress of a stage: a bar where someone watches, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

Advance = Callable[..., None]
"""`advance(done, note="")`: how many are done, and a word about them."""

SHARE = 0.1
"""Of the whole, from one line in a log to the next."""
SECONDS = 10.0
"""From one line in a log to the next at least: a short stage needs none."""


class RateColumn(ProgressColumn):
    """Units in a second: lately, or over the whole bar once it is full."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="progress.data.speed")


class Lines:
    """Tells a log at each tenth what is done and how long the rest will take, by the rate since the line before. `clock` tells seconds."""

    def __init__(self, console: Console, description: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._description, self._total, self._clock = console, description, total, clock
        self._told, self._at = 0, clock()

    def advance(self, done: int, note: str) -> None:
        """Print a line if it is time for one; none at the end, where the bar is printed in any case."""
        news, seconds = done - self._told, self._clock() - self._at
        if news < SHARE * self._total or seconds < SECONDS or done >= self._total:
            return
        left = timedelta(seconds=round((self._total - done) * seconds / news))
        words = f"{done / self._total:.0%}, {done:,} of {self._total:,}, {news / seconds:,.0f}/s, {left} left"
        self._console.print(f"{self._description}: {words}{note and f', {note}'}", highlight=False, soft_wrap=True)
        self._told, self._at = done, self._clock()


@contextmanager
def track(description: str, total: int) -> Generator[Advance]:
    """A bar with the count, the rate, the time spent and the time left; in a log, where a bar shows at its end alone, lines before that."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(description, total=total, note="")
        lines = None if progress.console.is_terminal else Lines(progress.console, description, total)

        def advance(done: int, note: str = "") -> None:
            progress.update(task, completed=done, note=note)
            if lines is not None:
                lines.advance(done, note)

        yield advance
