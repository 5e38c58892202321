"""Waypoints: goals on the way, within reach of one window, so that imagination stitches what no offline episode connects (ours).

Landmarks are spread over the goals that the offline data achieved; two are linked where an episode went from the one straight to the
other, at the steps that it took on average. The shortest way over the links leads to the task's goal, and the farthest landmark on it
that is within reach is the goal of the next window. As in Search on the Replay Buffer (Eysenbach et al. 2019), but links are ways that
the data took and not distances that a critic believes, so that none leads through a wall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree
from typing_extensions import Doc

from atradiff.data.hindsight import goal_distance
from atradiff.data.store import OfflineData
from atradiff.trajectory import Array, BoolArray, IntArray

CANDIDATES = 20_000
NEAREST = 4


@dataclass(frozen=True)
class WaypointConfig:
    """Goals on the way, at which the windows of a chain aim one after the other."""

    reach: Annotated[int, Ge(0), Doc("Steps to a window's goal at most, by the ways of the offline data; 0: every window aims at the task's goal.")] = 0
    landmarks: Annotated[int, Ge(2), Doc("Places that ways are made of, spread over the goals that the offline data achieved.")] = 256


class Waypoints:
    """Landmarks over the achieved goals of `data`, and the ways between them."""

    def __init__(self, data: OfflineData, achieved_goal: Sequence[int], radius: float, config: WaypointConfig) -> None:
        self.goal = list(achieved_goal)
        self.reach, self.radius = config.reach, radius
        achieved = data.states[:, self.goal]
        candidates = achieved[:: max(1, len(achieved) // CANDIDATES)]
        self._tree = KDTree(candidates[spread(candidates, config.landmarks)])
        nearest = self._nearest(achieved)
        sums = [np.bincount(nearest, weights=column) for column in achieved.T]
        self.landmarks = (np.stack(sums, axis=1) / np.bincount(nearest)[:, None]).astype(np.float32)  # from the rim to the middle of a place
        self._tree = KDTree(self.landmarks)
        links = _mean_steps(data, self._nearest(achieved), len(self.landmarks))
        self._steps, before = dijkstra(links.T, return_predecessors=True)
        self._steps, self._following = self._steps.T, before.T  # from row to column, and the landmark to go to first
        self._aims: dict[tuple[int, int], int] = {}

    def __call__(self, states: Array, tasks: Array) -> tuple[Array, BoolArray]:
        """The goals `[B, K]` to aim at from `states [B, O]` under `tasks [B, K]`, and which of them `[B]` are the tasks' own: those
        within reach, and those to which the data knows no way."""
        aims, final = tasks.copy(), np.ones(len(tasks), dtype=bool)
        for i, (start, end) in enumerate(self._ends_of_ways(states, tasks)):
            if self.reach < self._steps[start, end] < np.inf:
                aims[i], final[i] = self.landmarks[self._farthest_within_reach(start, end)], False
        return aims, final

    def reached(self, states: Array, aims: Array) -> BoolArray:
        """Which of the states `[B, T, O]` are within the radius of the goal `[B, K]` of their row, `[B, T]`."""
        return goal_distance(states, aims[:, None], self.goal) <= self.radius

    def steps(self, states: Array, tasks: Array) -> Array:
        """Steps `[B]` of the shortest way over the landmarks; infinite where there is none."""
        return np.asarray([self._steps[start, end] for start, end in self._ends_of_ways(states, tasks)], np.float32)

    def _ends_of_ways(self, states: Array, tasks: Array) -> Iterator[tuple[int, int]]:
        """The landmarks at which the way from each state to its goal begins, one of the nearest, and ends, one within the radius."""
        near = np.asarray(self._tree.query(states[:, self.goal], k=NEAREST)[1])
        within = self._tree.query_ball_point(tasks, self.radius, return_sorted=False)
        for starts, nearest, arrived in zip(near, self._nearest(tasks), within, strict=True):
            starts = starts[starts < len(self.landmarks)]
            ends = np.asarray(arrived or [nearest])
            steps = self._steps[starts[:, None], ends]
            first = int(np.isfinite(steps).any(1).argmax())  # the nearest from which there is a way
            yield int(starts[first]), int(ends[steps[first].argmin()])

    def _farthest_within_reach(self, start: int, end: int) -> int:
        """Or the very next where even that is out of reach; the end itself only then."""
        if (start, end) not in self._aims:
            here = int(self._following[start, end])
            while here != end and self._steps[start, end] - self._steps[self._following[here, end], end] <= self.reach:
                here = int(self._following[here, end])
            self._aims[start, end] = here
        return self._aims[start, end]

    def _nearest(self, goals: Array) -> IntArray:
        """The landmark `[N]` nearest to each goal `[N, K]`."""
        return np.asarray(self._tree.query(goals)[1], np.int64)


def _mean_steps(data: OfflineData, nearest: IntArray, size: int) -> csr_array:
    """Mean steps from one landmark to the next in the episodes, as a sparse matrix `[L, L]`, from each row's nearest landmark `[R]`."""
    begins = np.zeros(len(nearest), dtype=bool)
    begins[data.episode_starts] = True
    entered = np.flatnonzero(begins | (np.diff(nearest, prepend=nearest[0]) != 0))
    first, then = entered[:-1], entered[1:]
    first, then = first[~begins[then]], then[~begins[then]]
    pair = nearest[first] * size + nearest[then]
    count = np.bincount(pair, minlength=size**2)
    steps = np.bincount(pair, weights=then - first, minlength=size**2)
    return csr_array((steps / np.maximum(count, 1)).reshape(size, size))


def spread(points: Array, count: int) -> IntArray:
    """Indices of at most `count` of the points `[N, K]`, all different, each the farthest from those before it (Gonzalez 1985)."""
    chosen = [0]
    distance = np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < count and distance.any():
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.asarray(chosen)
