"""Hindsight: pieces of episodes under goals that they really reached (Andrychowicz et al. 2017), for the models to learn from.

A piece runs from any state to a later one; its goal is where that later state is, and it ends, as a success, where it first comes
within the radius of that goal. The radius is read off the data's own successes, so nobody asks the environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge
from typing_extensions import Doc

from atradiff.data.store import OfflineData, concatenate, row_ranges
from atradiff.errors import UserError
from atradiff.trajectory import Array, IntArray


@dataclass(frozen=True)
class HindsightConfig:
    """Offline episodes once more, in pieces under goals that these really reached; what the models learn from, beside the episodes."""

    cover: Annotated[int, Ge(0), Doc("Pieces to add, in multiples of the data's own transitions; 0 adds none.")] = 0
    maximum_steps: Annotated[int, Ge(1), Doc("Steps from a piece's first state to the one that gives the goal, at most.")] = 64
    seed: Annotated[int, Ge(0), Doc("Seed of the pieces' starts and ends.")] = 0


def arrival_radius(data: OfflineData, goal: Sequence[int]) -> float:
    """How near the state's entries `goal` come to the task where offline episodes ended in success; raises `UserError` where none did."""
    if not goal or len(goal) != data.spec.task_dim:
        raise UserError(
            f"hindsight and waypoints need goals: task.environment.achieved_goal names {len(goal)} state entries and the data's task has "
            f"{data.spec.task_dim}; name those that the goal is compared with, or set task.hindsight.cover and synthesis.waypoints.reach to 0"
        )
    if not data.episode_terminated.any():
        raise UserError(
            "hindsight and waypoints learn from successes how near a goal must be, and no offline episode has one: "
            "set task.hindsight.cover and synthesis.waypoints.reach to 0"
        )
    last = data.episode_ends[data.episode_terminated] - 1
    return float(goal_distance(data.states[last], data.tasks[data.episode_terminated], goal).max())


def goal_distance(states: Array, tasks: Array, goal: Sequence[int]) -> Array:
    """How far the entries `goal` of states `[..., O]` are from tasks `[..., K]`, `[...]`."""
    return np.linalg.norm(states[..., list(goal)] - tasks, axis=-1)


class Hindsight:
    """Cuts pieces out of data in which a goal `[K]` is reached when the state's entries `achieved_goal` come within a radius of it.

    Raises `UserError` where `data` does not bear that out.
    """

    def __init__(self, data: OfflineData, achieved_goal: Sequence[int], config: HindsightConfig) -> None:
        self.config = config
        self.goal = list(achieved_goal)
        if config.cover == 0:
            return
        self.radius = arrival_radius(data, self.goal)
        last = data.episode_ends[data.episode_terminated] - 1
        self.reward = float(np.median(data.rewards[last - 1]))
        self.reward_before = float(np.median(data.rewards[data.transition_rows()]))

    def __call__(self, data: OfflineData, generator: np.random.Generator) -> OfflineData:
        """`data` with its pieces behind it."""
        if self.config.cover == 0:
            return data
        pieces = [data]
        missing = self.config.cover * data.num_transitions
        while missing > 0:
            pieces.append(self._cut(data, missing, generator))
            missing -= max(self.config.maximum_steps, pieces[-1].num_transitions)  # where most begin at their goal there are fewer
        return concatenate(pieces)

    def _cut(self, data: OfflineData, missing: int, generator: np.random.Generator) -> OfflineData:
        """Pieces up to the one that makes up for the missing transitions, if so many are drawn; those that would begin at their goal
        are left out."""
        count = max(64, missing // max(1, self.config.maximum_steps // 2))
        first = generator.choice(data.transition_rows(), count)
        until = np.minimum(first + generator.integers(1, self.config.maximum_steps + 1, count), data.episode_ends[data.row_episodes()[first]] - 1)
        tasks = data.states[until][:, self.goal]
        ahead = np.minimum(first[:, None] + np.arange(self.config.maximum_steps + 1), until[:, None])
        near = goal_distance(data.states[ahead], tasks[:, None], self.goal) <= self.radius
        steps = near.argmax(1)
        kept = np.flatnonzero(steps)
        kept = kept[: np.searchsorted(steps[kept].cumsum(), missing) + 1]
        return self._pieces(data, first[kept], steps[kept], tasks[kept])

    def _pieces(self, data: OfflineData, first: IntArray, steps: IntArray, tasks: Array) -> OfflineData:
        ends = np.cumsum(steps + 1)
        rows, (o, a) = data.rows[row_ranges(first, first + steps + 1)], (data.spec.state_dim, data.spec.action_dim)
        rows[:, -1] = self.reward_before
        rows[ends - 2, -1] = self.reward
        rows[ends - 1, o : o + a + 1] = 0.0
        return OfflineData(data.spec, rows, tasks, ends, np.ones(len(ends), dtype=bool))
