"""What a dataset holds, in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atradiff.data.simulator import Maze
from atradiff.data.store import OfflineData
from atradiff.trajectory import Array, IntArray

MUCH = 0.9
"""Of the states' variance."""
SOME = 100_000
"""States on which the variance is measured."""


def overview(data: OfflineData, maze: Maze | None, place: Sequence[int]) -> dict[str, Any]:
    """Counts, spans of lengths and returns, and how much was covered, as plain values.

    `maze_cells` is the share of a maze's free cells that the state's entries `place` were in; `state_directions` is the number of directions,
    of standardised states, that hold nine tenths of their variance.
    """
    spec = data.spec
    return {
        "trajectories": data.num_episodes,
        "transitions": data.num_transitions,
        "length": span(data.episode_lengths),
        "return": span(episode_returns(data)),
        "terminated_share": float(data.episode_terminated.mean()),
        "state_dim": spec.state_dim,
        "action_dim": spec.action_dim,
        "task_dim": spec.task_dim,
        "tasks": len(np.unique(data.tasks, axis=0)),
        "reward_values": list(spec.reward_values) or None,
        "coverage": {
            "maze_cells": cells_visited(data.states[:, list(place)], maze) if maze is not None else None,
            "state_directions": directions(data.states[:: max(1, len(data.rows) // SOME)]),
        },
    }


def episode_returns(data: OfflineData) -> Array:
    """The undiscounted return of each episode, `[E]`; its closing row has no reward."""
    return np.add.reduceat(data.rewards, data.episode_starts, dtype=np.float64)


def span(values: Array | IntArray) -> dict[str, float]:
    """Least, median, mean and largest."""
    return {"min": float(values.min()), "median": float(np.median(values)), "mean": float(values.mean()), "max": float(values.max())}


def cells_visited(positions: Array, maze: Maze) -> float:
    """The share of the maze's free cells in which one of the positions `[N, 2]` is."""
    left, _, _, top = maze.extent
    cells = np.stack([np.floor((top - positions[:, 1]) / maze.cell_size), np.floor((positions[:, 0] - left) / maze.cell_size)], axis=1)
    visited = np.zeros_like(maze.walls)
    inside = cells[~maze.inside_wall(positions)].astype(int)
    visited[inside[:, 0], inside[:, 1]] = True
    return float(visited.sum() / (~maze.walls).sum())


def directions(states: Array) -> int:
    """How many principal components hold nine tenths of the variance of states `[N, O]`, each entry standardised; constant ones do not count."""
    moving = states[:, states.std(0, dtype=np.float64) > 1e-6].astype(np.float64)  # in single precision a constant's deviation is not nothing
    if moving.shape[1] == 0:
        return 0
    variances = np.linalg.eigvalsh(np.atleast_2d(np.corrcoef(moving, rowvar=False)))[::-1].cumsum()
    return int(np.searchsorted(variances, MUCH * variances[-1]) + 1)
