"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from atradiff.reporting.summary import Row, number


def evaluations_table(name: str, rows: Sequence[Row]) -> Table:
    """Every evaluation of one run."""
    table = _table(name, ["env steps", "success", "return", "gradient steps", "imagined", "mean length", "share", "seconds", "of it imagining"])
    for row in rows:
        table.add_row(
            number(row["env_steps"]),
            number(row["eval/success_rate"], "{:.0%}"),
            number(row["eval/return"], "{:.2f}"),
            number(row["gradient_steps"]),
            number(row["synthesis/trajectories"]),
            number(row["synthesis/mean_length"], "{:.1f}"),
            number(row["replay/synthetic_share"], "{:.1%}"),
            number(row["time/seconds"], "{:.1f}"),
            number(row["time/synthesis_seconds"], "{:.1f}"),
        )
    return table


def runs_table(summaries: Sequence[dict[str, Any]]) -> Table:
    """Runs side by side."""
    table = _table("", ["run", "task", "arm", "seed", "env steps", "first at 90 %", "mean success", "last success", "last return", "seconds"], text=3)
    for s in summaries:
        table.add_row(
            s["run"],
            s["task"],
            s["arm"],
            str(s["seed"]),
            number(s["env_steps"]),
            number(s["first_solved"], missing="never"),
            number(s["mean_success"], "{:.0%}"),
            number(s["final_success"], "{:.0%}"),
            number(s["final_return"], "{:.2f}"),
            number(s["seconds"], "{:.0f}"),
        )
    return table


def _table(title: str, columns: list[str], text: int = 0) -> Table:
    """A plain table; its first `text` columns are text, the others numbers."""
    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < text else "right", overflow="fold")
    return table
