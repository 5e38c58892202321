"""What a run comes to, in a few numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

SOLVED = 0.9
TIMES = {
    "env": "acting in the environment",
    "update": "agent's updates",
    "synthesis": "imagining",
    "adapt": "adapting the models",
    "evaluate": "evaluating",
}
STEPS = ("env_steps", "gradient_steps")
"""What a line of metrics is counted by: the first of them that it has. Runs without env steps have gradient steps alone."""
EVALUATION_COLUMNS = {
    "env_steps": ("env steps", "{:,.0f}"),
    "gradient_steps": ("gradient steps", "{:,.0f}"),
    "eval/success_rate": ("success", "{:.0%}"),
    "eval/return": ("return", "{:.2f}"),
    "eval/length": ("length", "{:.0f}"),
    "synthesis/trajectories": ("imagined", "{:,.0f}"),
    "synthesis/mean_length": ("mean length", "{:.1f}"),
    "replay/synthetic_share": ("share", "{:.1%}"),
    "time/seconds": ("seconds", "{:,.1f}"),
}
"""What a table of evaluations shows, by metric: its heading, and how it is written."""
TOLD_SETTINGS = 2
"""In the label of a curve."""
Row = Mapping[str, Any]


def steps_of(row: Row) -> int:
    """The steps that had been taken: env steps, or, in a run without any, gradient steps."""
    return row[unit_of(row)]


def unit_of(row: Row) -> str:
    """Which of them."""
    return next(unit for unit in STEPS if unit in row)


def in_words(unit: str) -> str:
    """A metric's name for steps, as people call them."""
    return unit.replace("_", " ")


def arm_of(about: Row) -> str:
    """The arm of a run; of an offline one with its algorithm."""
    return " ".join([about["arm"], *([about["agent"]] if "agent" in about else [])])


def summarize(name: str, about: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """The figures by which runs are compared.

    `first_solved` is the first evaluated step with success 0.9 or more, `mean_success` the mean of the success rate over steps (trapezoids); both are
    None where they are not known. Steps are env steps, and gradient steps where a run has no env steps.
    """
    last = rows[-1] if rows else {}
    seconds = last.get("time/seconds")
    return {
        "run": name,
        "task": about["task"],
        "arm": arm_of(about),
        "seed": about["seed"],
        "env_steps": last.get("env_steps", 0),
        "gradient_steps": last.get("gradient_steps", 0),
        "first_solved": next((steps_of(row) for row in rows if (row["eval/success_rate"] or 0.0) >= SOLVED), None),
        "mean_success": _mean_over_steps(rows),
        "final_success": last.get("eval/success_rate"),
        "final_return": last.get("eval/return"),
        "seconds": seconds,
        "synthesis_share": last["time/synthesis_seconds"] / seconds if seconds else None,
    }


def tell_apart(arms: Sequence[str], settings: Sequence[Row]) -> list[str]:
    """Each run's arm with those of its settings in which runs of that arm differ, the first few of them; runs that differ in none are called alike."""
    labels: list[str] = []
    for arm, own in zip(arms, settings, strict=True):
        others = [other for other_arm, other in zip(arms, settings, strict=True) if other_arm == arm]
        differing = [name for name in own if any(other.get(name) != own[name] for other in others)]
        told = [f"{name}={own[name]}" for name in differing[:TOLD_SETTINGS]]
        more = [f"and {len(differing) - TOLD_SETTINGS} more"] if len(differing) > TOLD_SETTINGS else []
        labels.append(", ".join([arm, *told, *more]))
    return labels


def _mean_over_steps(rows: Sequence[Row]) -> float | None:
    points = [(steps_of(row), row["eval/success_rate"]) for row in rows]
    if len(points) < 2 or any(success is None for _, success in points):
        return None
    area = sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairwise(points))
    return area / (points[-1][0] - points[0][0])


def time_parts(row: Row) -> dict[str, float]:
    """Where the seconds went, as far as there are timers, the rest being everything that none covers."""
    parts = {label: float(row[f"time/{timer}_seconds"]) for timer, label in TIMES.items() if f"time/{timer}_seconds" in row}
    return {**parts, "the rest": max(0.0, float(row["time/seconds"]) - sum(parts.values()))}


def number(value: float | None, pattern: str = "{:,.0f}", missing: str = "-") -> str:
    """A figure as text, `missing` where there is none. What rounds to zero has no sign."""
    if value is None:
        return missing
    text, zero = pattern.format(value), pattern.format(0).lstrip("+")
    return zero if text.lstrip("+-") == zero else text


def evaluation_cells(rows: Sequence[Row], without: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """The evaluations as text: the headings, and of each row its cells. Columns that the rows do not have, and those in `without`, are left out."""
    shown = {column: told for column, told in EVALUATION_COLUMNS.items() if column not in without and all(column in row for row in rows)}
    return [heading for heading, _ in shown.values()], [[number(row[column], pattern) for column, (_, pattern) in shown.items()] for row in rows]
