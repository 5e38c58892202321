"""Where imagination begins beforehand: where the environment's episodes do, and in states of the offline data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from atradiff.data.environment import TaskEnvironment
from atradiff.data.store import OfflineData
from atradiff.errors import UserError
from atradiff.online.seeds import episode_seed
from atradiff.trajectory import Array, IntArray

Goals = Literal["task", "own"]


def reset_starts(environment: TaskEnvironment, seed: int, episodes: Iterable[int]) -> tuple[Array, Array]:
    """States `[N, O]` and tasks `[N, K]` of the resets with these numbers, see `episode_seed`; no env step is taken for it."""
    starts, spec = [environment.reset(episode_seed(seed, episode)) for episode in episodes], environment.spec
    states, tasks = (np.asarray([start[part] for start in starts], np.float32) for part in (0, 1))
    return states.reshape(len(starts), spec.state_dim), tasks.reshape(len(starts), spec.task_dim)  # also where either is 0


def beforehand(environment: TaskEnvironment, seed: int, count: int, drawn: int = 0) -> tuple[Array, Array]:
    """`reset_starts` of `count` resets that are no episode of the run, behind the `drawn` first ones: their numbers are -1, -2, ..."""
    return reset_starts(environment, seed, (-1 - drawn - i for i in range(count)))


@dataclass(frozen=True)
class OfflineStarts:
    """Which `share` of what is imagined beforehand begins in states of the `data`, and under which `goals`: the task at hand's, or those of the
    states' own episodes, of which those of the task with this `identity [I]` are taken then, see `TaskEnvironment.identity`."""

    data: OfflineData
    share: float
    goals: Goals
    identity: Array

    @property
    def ends(self) -> bool:
        """Whether the data knows of any end of the task."""
        return bool(self.data.episode_terminated.any())

    def resets(self, count: int) -> int:
        """How many resets `count` starts take: under the task's goals each has its goal from one."""
        return count if self.goals == "task" else count - self._moved(count)

    def __call__(self, count: int, states: Array, tasks: Array, generator: torch.Generator) -> tuple[Array, Array]:
        """Starts, states `[count, O]` and tasks `[count, K]`: first those in the data, then those in the resets given, `resets(count)` of them."""
        moved, data = self._moved(count), self.data
        if self.goals == "task":
            rows = torch.randint(len(data.rows), (moved,), generator=generator).numpy()
            return np.concatenate([data.states[rows], states[moved:]]), tasks
        rows = self._own[torch.randint(len(self._own), (moved,), generator=generator).numpy()]
        return np.concatenate([data.states[rows], states]), np.concatenate([data.tasks[data.episodes_of(rows)], tasks])

    def _moved(self, count: int) -> int:
        return round(self.share * count)

    @cached_property
    def _own(self) -> IntArray:
        """The rows `[M]` in which a transition of the task begins."""
        rows = self.data.transition_rows()
        own = rows[self.data.of_task(self.identity)[self.data.episodes_of(rows)]]
        if not len(own):
            raise UserError("online.warm_start_goals is own, but the offline data has no episode of the task at hand: set it to task")
        return own
