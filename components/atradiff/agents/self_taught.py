"""A controller that nobody scripted: our own SAC learns in the environment, and then collects, or is watched while it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.make import make_agent
from atradiff.data.collect import CollectConfig, Controller, LatestReturns, Report, play_episode
from atradiff.data.environment import TaskEnvironment, split_observation
from atradiff.replay.buffer import Buffer
from atradiff.trajectory import Array, join_task

AGENT = AgentConfig(
    width=256, batch_size=256, utd_ratio=1, initial_temperature=0.1, actor_value="min", acting_rate=1.0, imitation_weight=0.0
)
RANDOM_STEPS = 1_000
"""Uniform actions before it learns."""


class SelfTaught(Controller):
    """SAC with layer norm in its critics, one gradient step for each env step, one-step targets. What it collects is its exploring policy's.

    With `config.training_steps` it has learned for so many env steps before it collects; a `medium-replay` is what it sees as it learns.
    """

    def __init__(self, environment: TaskEnvironment, config: CollectConfig, report: Report) -> None:
        self._env = environment.env
        self._state_keys = environment.config.state_keys
        self._generator = torch.Generator().manual_seed(config.seed)
        spec = environment.spec
        self._agent = make_agent(spec, AGENT, self._generator)
        self._steps = config.transitions if config.quality == "medium-replay" else (config.training_steps or 0)
        self._buffer = Buffer(max(self._steps, 2), spec.observation_dim, spec.action_dim, 1, AGENT.discount)
        self._space = environment.action_space
        self.algorithm = f"SAC {'while it learned' if config.quality == 'medium-replay' else 'after it had learned'} for {self._steps} env steps"
        if config.quality == "medium-replay":
            return
        generator = np.random.default_rng((config.seed, 1))
        latest = LatestReturns()
        while len(self._buffer) < self._steps:
            told = latest.add(play_episode(self._env, self, generator, self._steps - len(self._buffer)))
            report(len(self._buffer), told)

    def act(self, observation: Any, generator: np.random.Generator) -> Array:
        """The exploring policy's action `[A]`; uniform ones at first."""
        self._seen = self._flat(observation)
        if len(self._buffer) < min(RANDOM_STEPS, self._steps):
            self._action = generator.uniform(self._space.low, self._space.high).astype(np.float32)
        else:
            self._action = self._agent.act(self._seen[None], self._generator)[0]
        return self._action

    def experience(self, observation: Any, reward: float, *, terminated: bool, truncated: bool) -> None:
        """Learn from the last step, until `training_steps` are over."""
        if len(self._buffer) >= self._steps:
            return
        self._buffer.add_step(self._seen, self._action, reward, self._flat(observation), terminated, truncated)
        if len(self._buffer) > RANDOM_STEPS:
            self._agent.update(self._buffer.sample(AGENT.batch_size, self._generator), self._generator)

    def _flat(self, observation: Any) -> Array:
        return join_task(*split_observation(self._env.observation_space, observation, (), self._state_keys))
