"""Tables for the terminal, narrow enough for 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from atradiff.reporting.summary import Row, evaluation_cells, number

Seconds = dict[str, dict[str, float]]
"""Of each phase by name: the seconds of each of its parts."""
RUN_COLUMNS = ("run", "arm", "seed", "steps", "at 90 %", "mean", "last", "time")
RUN_TEXT = ("run", "arm")
GIVING_WAY = ("time", "seed", "mean", "arm", "at 90 %")
"""In a narrow terminal, the first one first."""
BETWEEN = 2
"""Blanks from one column to the next."""


def evaluations_table(rows: Sequence[Row]) -> Table:
    """Every evaluation of one run."""
    headings, cells = evaluation_cells(rows, without=("eval/length", "synthesis/mean_length"))
    table = _table([], headings)
    for row in cells:
        table.add_row(*row)
    return table


def runs_table(summaries: Sequence[dict[str, Any]], width: int) -> Table:
    """Runs side by side; where the environment tells of no success, the last column but one is the return. Steps are env steps, or gradient
    steps in runs without any. Names are typed again, so they stay whole: where the `width` is too small for all, other columns give way."""
    columns = {heading: [_run_cells(summary)[heading] for summary in summaries] for heading in RUN_COLUMNS}
    for heading in GIVING_WAY:
        if sum(max(map(len, [name, *cells])) + BETWEEN for name, cells in columns.items()) - BETWEEN > width:
            del columns[heading]
    table = _table([name for name in columns if name in RUN_TEXT], [name for name in columns if name not in RUN_TEXT])
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table


def _run_cells(s: dict[str, Any]) -> dict[str, str]:
    last = number(s["final_return"], "{:.2f}") if s["final_success"] is None else number(s["final_success"], "{:.0%}")
    at = number(s["first_solved"], missing="never" if s["final_success"] is not None else "-")
    run = (s["run"], s["arm"], str(s["seed"]), number(s["env_steps"] or s["gradient_steps"]))
    return dict(zip(RUN_COLUMNS, (*run, at, number(s["mean_success"], "{:.0%}"), last, number(s["seconds"], "{:,.0f} s")), strict=True))


def plan_table(phases: Sequence[tuple[str, int]]) -> Table:
    """What a run is going to do: each kind of phase, how often, and the env steps of the first and of the last."""
    at: dict[str, list[int]] = {}
    for kind, env_steps in phases:
        at.setdefault(kind.replace("_", " "), []).append(env_steps)
    table = _table(["phase"], ["times", "first ends at", "last ends at"])
    for kind, ends in at.items():
        table.add_row(kind, number(len(ends)), number(ends[0]), number(ends[-1]))
    return table


def profile_table(seconds: Seconds) -> Table:
    """Where a run's seconds went: a line for each phase, a column for each part, and the sums of both."""
    parts = list(dict.fromkeys(part for own in seconds.values() for part in own))
    table = _table(["seconds"], [*parts, "all"])
    sums = {part: sum(own.get(part, 0.0) for own in seconds.values()) for part in parts}
    for phase, own in {**seconds, "all": sums}.items():
        table.add_row(phase, *(number(own.get(part, 0.0) or None, "{:,.1f}") for part in parts), f"{sum(own.values()):,.1f}")
    return table


def _table(text: Sequence[str], numbers: Sequence[str]) -> Table:
    """A plain table: columns of text to the left, then columns of numbers. What is too wide is folded: nothing is cut off."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in text:
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right", overflow="fold")
    return table
