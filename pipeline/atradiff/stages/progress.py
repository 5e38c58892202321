"""The progress of a stage: a bar where someone watches, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta

from rich import get_console
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
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
    """Tells a log at each tenth what is done and how long the rest will take, by the rate since the line before, and the whole at the end.
    `clock` tells seconds."""

    def __init__(self, console: Console, description: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._description, self._total, self._clock = console, description, total, clock
        self._began = self._at = clock()
        self._told, self._ended = 0, False

    def advance(self, done: int, note: str = "") -> None:
        """Print a line if it is time for one."""
        now = self._clock()
        news, seconds = done - self._told, now - self._at
        if done >= self._total and not self._ended:
            self._ended = True
            self._print(f"{done:,} in {_duration(now - self._began)}", note)
        elif news >= SHARE * self._total and seconds >= SECONDS and not self._ended:
            rest = (self._total - done) * seconds / news
            self._print(f"{done / self._total:.0%}, {done:,} of {self._total:,}, {news / seconds:,.0f}/s, {_duration(rest)} left", note)
            self._told, self._at = done, now

    def _print(self, words: str, note: str) -> None:
        self._console.print(f"{self._description}: {words}{note and f', {note}'}", highlight=False, soft_wrap=True)


def _duration(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))


@contextmanager
def track(description: str, total: int) -> Generator[Advance]:
    """A bar with the count, the rate, the time spent and the time left, which gives its words a second line in a narrow terminal; lines in a log."""
    console = get_console()
    if not console.is_terminal:
        yield Lines(console, description, total).advance
        return
    columns = (
        TextColumn("{task.description}", table_column=Column(overflow="fold")),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", table_column=Column(overflow="fold")),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total, note="")

        def advance(done: int, note: str = "") -> None:
            progress.update(task, completed=done, note=note)

        yield advance
