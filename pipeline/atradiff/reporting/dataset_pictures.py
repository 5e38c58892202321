"""A picture of a dataset: how long its episodes are, what they return, and where their states lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from atradiff.data.overview import episode_returns
from atradiff.data.simulator import Maze
from atradiff.data.store import OfflineData
from atradiff.reporting.pictures import draw_maze, principal_plane
from atradiff.reporting.style import PALETTE, figure_at
from atradiff.trajectory import Array, IntArray

BINS = 30
SHOWN_STATES = 200_000


def draw_dataset(path: Path, data: OfflineData, maze: Maze | None, place: Sequence[int], title: str) -> None:
    """Histograms of lengths and returns, terminated episodes apart from cut ones, and the density of states: over the maze, in the entries
    `place` of states, or else over the first two principal components."""
    ended = data.episode_terminated
    states = data.states[:: max(1, len(data.rows) // SHOWN_STATES)]
    points = states[:, list(place)] if maze is not None else principal_plane(states)(states)
    with figure_at(path, 12.6, 3.9) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        lengths, returns, density = figure.subplots(1, 3)
        for axes, values, label in ((lengths, data.episode_lengths, "env steps of an episode"), (returns, episode_returns(data), "return of an episode")):
            _histogram(axes, [values[ended], values[~ended]], label)
        lengths.set_ylabel("episodes")
        lengths.xaxis.set_major_locator(MaxNLocator(integer=True))
        lengths.legend(loc="best")
        _density(density, points)
        if maze is not None:
            draw_maze(density, maze)
        name = ("x (m)", "y (m)") if maze is not None else ("first principal component", "second principal component")
        density.set(title="Where its states lie", xlabel=name[0], ylabel=name[1])


def _histogram(axes: Axes, groups: Sequence[Array | IntArray], label: str) -> None:
    axes.hist(groups, bins=BINS, stacked=True, color=PALETTE[:2], label=["terminated", "cut"])
    axes.set_xlabel(label)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _density(axes: Axes, points: Array) -> None:
    counts, columns, rows = np.histogram2d(points[:, 0], points[:, 1], bins=60)
    shown = np.ma.masked_equal(np.log10(np.maximum(counts, 1)) + (counts > 0), 0)
    axes.pcolormesh(columns, rows, shown.T, cmap="viridis", rasterized=True)
    axes.grid(visible=False)
