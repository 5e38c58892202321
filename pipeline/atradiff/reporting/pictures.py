"""Pictures of trainings, learning and trajectories, in one clean style."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import Normalize
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from atradiff.data.simulator import Maze
from atradiff.reporting.style import INK, LINES, MUTED, PALETTE, WALL, figure_at, thousands_axis
from atradiff.reporting.summary import Row, in_words, unit_of
from atradiff.trajectory import Array, Trajectory

STEPS_COLOURS = "viridis"
LOSS_BINS = 300
STROKES = 24
BESIDE = 0.2
"""Of the way from one evaluation to the next: how far apart the points of a study's curves are drawn."""
MOST_COLUMNS = 3
"""Tasks side by side in a study's picture, so that a page can show it."""
HANDLE, LETTER = 0.6, 0.075
"""Inches that a legend's line and gaps, and a letter of a label, take."""


def loss_curve(path: Path, losses: list[float], title: str) -> None:
    """A training loss over gradient steps, on a log scale: the mean of each stretch of steps, and its 10 to 90 % range."""
    parts = np.array_split(np.asarray(losses, np.float64), min(LOSS_BINS, len(losses)))
    ends = np.cumsum([len(part) for part in parts])
    low, high = (np.asarray([np.quantile(part, q) for part in parts]) for q in (0.1, 0.9))
    with figure_at(path, 6.4, 3.4) as figure:
        axes = figure.add_subplot(title=title, xlabel="gradient steps", ylabel="loss")
        axes.fill_between(ends, low, high, color=PALETTE[0], alpha=0.18, linewidth=0)
        axes.plot(ends, [part.mean() for part in parts], color=PALETTE[0], linewidth=1.6)
        if min(losses) > 0:
            axes.set_yscale("log")
        axes.set_xlim(0, len(losses))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def learning_curves(path: Path, curves: Mapping[str, Sequence[Sequence[Row]]], title: str = "Evaluation while learning") -> None:
    """Evaluations over env steps (gradient steps in runs without any) and over the wall clock.

    `curves` holds under each label the metrics of one run or of several (seeds): then their mean is drawn, over the mean of their seconds, within a
    band from the least to the greatest. Shows the success rate, or the return where there is no success.
    """
    told = all(row["eval/success_rate"] is not None for runs in curves.values() for rows in runs for row in rows)
    metric, label = ("eval/success_rate", "success rate") if told else ("eval/return", "return of an episode")
    unit = unit_of(next(iter(curves.values()))[0][0])
    width = 9.2
    with figure_at(path, width, 3.8) as figure:
        steps_axes, clock_axes = figure.subplots(1, 2, sharey=True)
        steps_axes.set(title=title, xlabel=in_words(unit), ylabel=label)
        clock_axes.set(xlabel="wall clock (s)")
        for number, (name, runs) in enumerate(curves.items()):
            colour, (marker, dashes) = PALETTE[number % len(PALETTE)], LINES[number % len(LINES)]
            by_step = [{int(row[unit]): (float(row[metric]), float(row["time/seconds"])) for row in rows} for rows in runs]
            shared = sorted(set.intersection(*(set(run) for run in by_step)))
            values, seconds = np.moveaxis(np.asarray([[run[step] for step in shared] for run in by_step]), -1, 0)
            text = f"{name} (mean of {len(runs)})" if len(runs) > 1 else name
            for axes, places in ((steps_axes, np.asarray(shared)), (clock_axes, seconds.mean(0))):
                if len(runs) > 1:
                    axes.fill_between(places, values.min(0), values.max(0), color=colour, alpha=0.14, linewidth=0)
                line = {"color": colour, "linewidth": 2.2, "linestyle": dashes, "marker": marker, "markersize": 5}
                axes.plot(places, values.mean(0), label=text, clip_on=False, zorder=3, **line)
        if told:
            steps_axes.set_ylim(0, 1)
            steps_axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        thousands_axis(steps_axes, 6)
        thousands_axis(clock_axes, 6)
        handles, texts = steps_axes.get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=legend_columns(texts, width))


def legend_columns(labels: Sequence[str], width: float) -> int:
    """How many of these labels stand side by side below a picture of this width, in inches; three at most. Else they would be cut off at its sides."""
    widest = HANDLE + LETTER * max(map(len, labels))
    return max(1, min(3, len(labels), int(width / widest)))


class Outcome(NamedTuple):
    """What the seeds of one variant came to on one task: success over `env_steps [E]` and the regret, each with its interval, and each seed's regret."""

    env_steps: Array
    success: tuple[Array, Array, Array]
    """Value, low and high, `[E]` each."""
    regret: tuple[float, float, float]
    regrets: Array
    """`[S]`."""


def compared_variants(path: Path, panels: Mapping[str, Mapping[str, Outcome]]) -> None:
    """For each task, a column: success over env steps, a curve for each variant with its points beside one another's, and below it the regret,
    a line for each variant with its seeds as rings. More than three tasks go on below."""
    labels = list(dict.fromkeys(label for outcomes in panels.values() for label in outcomes))
    heights = 2.9, 0.5 + 0.26 * len(labels)
    columns, lines = min(len(panels), MOST_COLUMNS), -(-len(panels) // MOST_COLUMNS)
    with figure_at(path, LETTER * max(map(len, labels)) + max(6.4, 4 * columns), lines * (sum(heights) + 0.4)) as figure:
        grid = figure.subplots(2 * lines, columns, squeeze=False, sharey="row", height_ratios=heights * lines)
        upper, lower = grid[::2], grid[1::2]
        for unused in (*upper.flat[len(panels) :], *lower.flat[len(panels) :]):
            unused.set_visible(False)
        for curves, regrets, (title, outcomes) in zip(upper.flat, lower.flat, panels.items(), strict=False):
            beside = BESIDE * max(np.diff(outcome.env_steps).max(initial=1) for outcome in outcomes.values())
            curves.set(title=title, xlabel="env steps", ylim=(0, 1))
            regrets.set(xlabel="regret, env steps (rings are seeds)")
            for label, outcome in outcomes.items():
                number = labels.index(label)
                colour, (marker, dashes) = PALETTE[number % len(PALETTE)], LINES[number % len(LINES)]
                style = {"color": colour, "marker": marker, "markersize": 5, "clip_on": False, "zorder": 3}
                places = outcome.env_steps + beside * (number / len(labels) - 0.5)
                value, low, high = outcome.success
                curves.plot(places, value, linewidth=1.5, linestyle=dashes, **style)
                curves.vlines(places, low, high, color=colour, linewidth=1.2, alpha=0.6)
                value, low, high = outcome.regret
                regrets.plot(outcome.regrets, np.full(len(outcome.regrets), number), "o", color="none", markeredgecolor=MUTED, markersize=6, clip_on=False)
                regrets.hlines(number, low, high, color=colour, linewidth=3, alpha=0.6, clip_on=False)
                regrets.plot(value, number, **style)
            curves.yaxis.set_major_formatter(PercentFormatter(1.0))
            for axes in (curves, regrets):
                thousands_axis(axes, 5)
            curves.set_xlim(left=-beside / 2)
            if not any(outcome.regrets.any() for outcome in outcomes.values()):
                regrets.set_xlim(right=max(outcome.env_steps[-1] for outcome in outcomes.values()) or 1)
        for curves, regrets in zip(upper[:, 0], lower[:, 0], strict=True):
            curves.set_ylabel("success rate")
            regrets.set_yticks(range(len(labels)), labels)
            regrets.set_ylim(len(labels) - 0.5, -0.5)


def imagined_over_maze(
    path: Path,
    imagined: Sequence[Trajectory],
    real: Sequence[Trajectory],
    maze: Maze | None,
    position: Sequence[int] = (0, 1),
    titles: tuple[str, str] = ("Imagined", "Real"),
    removed: Sequence[Array] = (),
) -> None:
    """Imagined trajectories beside real ones, coloured by step, with starts, goals and walls; grey is what the pruner `removed`, stretches of
    states `[R, O]`.

    `position` names the two state entries that are the place in the maze. Without a maze the states are projected on the first two
    principal components of all of them. Either list may be empty: then it has no panel.
    """
    panels = [(title, group) for title, group in zip(titles, (imagined, real), strict=True) if group]
    project = (lambda states: states[:, list(position)]) if maze is not None else principal_plane(np.concatenate([t.states for t in (*imagined, *real)]))
    longest = max(len(trajectory) for _, group in panels for trajectory in group)
    scale = Normalize(0, longest)
    ratio = maze.walls.shape[0] / maze.walls.shape[1] if maze is not None else 0.85
    width = 4.3 if ratio > 0.8 else 5.4
    with figure_at(path, width * len(panels) + 0.7, width * ratio + 0.8) as figure:
        row = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
        for axes, (title, group) in zip(row, panels, strict=True):
            axes.set_title(f"{title} ({len(group)})")
            if maze is not None:
                draw_maze(axes, maze)
            if group is imagined and removed:
                strays = LineCollection([project(stretch) for stretch in removed], color=MUTED, linewidth=0.9, alpha=0.45, linestyle=(0, (2, 1.5)))
                strays.set_label("removed by the pruner")
                axes.add_collection(strays)
            for trajectory in group:
                _draw_way(axes, project(trajectory.states), scale)
            _draw_ends(axes, group, project, goals=maze is not None)
            axes.set_xlabel("x (m)" if maze is not None else "first principal component")
        row[0].set_ylabel("y (m)" if maze is not None else "second principal component")
        colours = ScalarMappable(scale, STEPS_COLOURS)
        figure.colorbar(colours, ax=list(row), label="env steps from the start", shrink=0.75, pad=0.02).outline.set_visible(False)
        handles, labels = row[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))


def principal_plane(states: Array) -> Callable[[Array], Array]:
    """The projection of states `[T, O]` on the first two principal components `[T, 2]` of the given ones `[N, O]`, standardised."""
    mean, scale = states.mean(0, dtype=np.float64), np.maximum(states.std(0, dtype=np.float64), 1e-9)
    _, _, components = np.linalg.svd((states - mean) / scale, full_matrices=False)
    plane = np.zeros((states.shape[1], 2))
    plane[:, : len(components[:2])] = components[:2].T
    return lambda states: (states - mean) / scale @ plane


def draw_maze(axes: Axes, maze: Maze) -> None:
    """The walls, to scale."""
    left, right, bottom, top = maze.extent
    size = maze.cell_size
    corners = [(left + (j + 0.03) * size, top - (i + 0.97) * size) for i, j in np.argwhere(maze.walls)]
    style = f"round,pad=0,rounding_size={0.12 * size}"
    boxes = [FancyBboxPatch(corner, 0.94 * size, 0.94 * size, boxstyle=style) for corner in corners]
    axes.add_collection(PatchCollection(boxes, facecolor=WALL, linewidth=0, zorder=1), autolim=False)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _draw_way(axes: Axes, points: Array, scale: Normalize) -> None:
    """One trajectory `[T + 1, 2]` in a few strokes, each in the colour of its middle step."""
    edges = np.linspace(0, len(points) - 1, min(STROKES, len(points) - 1) + 1).round().astype(int)
    strokes = [points[first : last + 1] for first, last in pairwise(edges)]
    lines = LineCollection(strokes, cmap=STEPS_COLOURS, norm=scale, linewidth=1.5, alpha=0.9, capstyle="round")
    lines.set_array((edges[:-1] + edges[1:]) / 2)
    axes.add_collection(lines)
    axes.autoscale_view()


def _draw_ends(axes: Axes, group: Sequence[Trajectory], project: Any, *, goals: bool) -> None:
    """Starts as dots; goals as stars where the picture is the maze's plane."""
    starts = np.concatenate([project(trajectory.states[:1]) for trajectory in group])
    axes.scatter(*starts.T, s=26, color="white", edgecolor=INK, linewidth=1.2, zorder=4, label="start")
    if goals and all(len(trajectory.task) >= 2 for trajectory in group):
        places = np.unique([trajectory.task[:2] for trajectory in group], axis=0)
        axes.scatter(*places.T, s=170, marker="*", color=PALETTE[1], edgecolor="white", linewidth=1, zorder=5, label="goal")
