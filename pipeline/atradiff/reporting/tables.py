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
DATASET_TEXT = ("dataset", "environment", "format")
DATASETS_GIVING_WAY = ("format", "MB", "episodes", "environment", "transitions")
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
    return _fitting(columns, RUN_TEXT, GIVING_WAY, width)


def datasets_table(datasets: Sequence[dict[str, Any]], width: int) -> Table:
    """Minari datasets, whose ids stay whole as runs' names do; `atradiff data show` tells what gives way."""
    columns = {
        "dataset": [d["id"] for d in datasets],
        "environment": [d["environment"] or "none told" for d in datasets],
        "format": [d["format"] for d in datasets],
        "episodes": [number(d["episodes"]) for d in datasets],
        "transitions": [number(d["transitions"]) for d in datasets],
        "MB": [f"{d['megabytes']:,}" for d in datasets],
    }
    return _fitting(columns, DATASET_TEXT, DATASETS_GIVING_WAY, width)


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


def _fitting(columns: dict[str, list[str]], text: Sequence[str], giving_way: Sequence[str], width: int) -> Table:
    """A table of these columns, `text` to the left of the numbers, without the first of those `giving_way` for which the `width` has no room."""
    kept = dict(columns)
    for heading in giving_way:
        if sum(max(map(len, [name, *cells])) + BETWEEN for name, cells in kept.items()) - BETWEEN > width:
            del kept[heading]
    table = _table([name for name in kept if name in text], [name for name in kept if name not in text])
    for cells in zip(*kept.values(), strict=True):
        table.add_row(*cells)
    return table


def _table(text: Sequence[str], numbers: Sequence[str]) -> Table:
    """A plain table: columns of text to the left, then columns of numbers. What is too wide is folded: nothing is cut off."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in text:
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right", overflow="fold")
    return table
