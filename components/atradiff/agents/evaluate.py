"""How well an agent does: whole episodes with deterministic actions and fixed seeds."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch

from atradiff.data.environment import EnvironmentConfig, TaskEnvironment
from atradiff.data.shift import UNSHIFTED, ShiftConfig
from atradiff.trajectory import Array, join_task


class Policy(Protocol):
    """Whatever acts: observations `[N, D]` to actions `[N, A]`; without a generator deterministically."""

    def act(self, observations: Array, generator: torch.Generator | None) -> Array: ...


class Evaluation(NamedTuple):
    """Means over the episodes. `success_rate` is None where the environment never tells."""

    success_rate: float | None
    episode_return: float
    episode_length: float

    def metrics(self) -> dict[str, float | None]:
        """For a line of metrics."""
        return {"eval/success_rate": self.success_rate, "eval/return": self.episode_return, "eval/length": self.episode_length}


class Evaluator:
    """Runs `episodes` episodes side by side, one batched action for all. The seeds are the same in every call."""

    def __init__(self, config: EnvironmentConfig, episodes: int, seed: int, shift: ShiftConfig = UNSHIFTED) -> None:
        self.environments = [TaskEnvironment(config, shift=shift) for _ in range(episodes)]
        self.seeds = [int(s) for s in np.random.SeedSequence([seed, episodes]).generate_state(episodes)]

    def __call__(self, policy: Policy) -> Evaluation:
        starts = [env.reset(seed) for env, seed in zip(self.environments, self.seeds, strict=True)]
        observations = np.stack([join_task(*start) for start in starts])
        count = len(self.environments)
        returns, lengths = np.zeros(count), np.zeros(count)
        successes: list[bool | None] = [None] * count
        running = list(range(count))
        while running:
            actions = policy.act(observations[running], None)
            still: list[int] = []
            for i, action in zip(running, actions, strict=True):
                state, task, reward, terminated, truncated, success = self.environments[i].step(action)
                observations[i] = join_task(state, task)
                returns[i] += reward
                lengths[i] += 1
                if success is not None:
                    successes[i] = bool(successes[i]) or success
                if not (terminated or truncated):
                    still.append(i)
            running = still
        told = [s for s in successes if s is not None]
        return Evaluation(float(np.mean(told)) if told else None, float(returns.mean()), float(lengths.mean()))

    def close(self) -> None:
        for environment in self.environments:
            environment.close()
