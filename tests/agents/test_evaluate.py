"""Evaluation: whole episodes, fixed seeds, deterministic actions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import toys
from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.evaluate import Evaluator
from atradiff.agents.sac import SAC
from atradiff.data.environment import EnvironmentConfig
from atradiff.trajectory import Array


class Straight:
    """Walks straight to the goal, and keeps what it was asked."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self.asked: list[Array] = []

    def act(self, observations: Array, generator: object) -> Array:
        assert generator is None
        self.asked.append(observations.copy())
        return self.speed * np.clip((observations[:, 2:] - observations[:, :2]) / toys.STEP, -1, 1)


def test_the_same_episodes_in_every_call() -> None:
    evaluator, policies = Evaluator(toys.REACH, 5, seed=0), [Straight(), Straight()]
    first, second = (evaluator(policy) for policy in policies)
    assert first == second
    assert all(np.array_equal(a, b) for a, b in zip(policies[0].asked, policies[1].asked, strict=True))
    assert len({tuple(row) for row in policies[0].asked[0]}) == 5  # five different starts
    other = Straight()
    Evaluator(toys.REACH, 5, seed=1)(other)
    assert not np.array_equal(other.asked[0], policies[0].asked[0])


def test_means_against_one_episode_at_a_time() -> None:
    policy = Straight()
    evaluator = Evaluator(toys.REACH, 8, seed=0)
    together = evaluator(policy)
    returns, lengths, successes = [], [], []
    for environment, seed in zip(evaluator.environments, evaluator.seeds, strict=True):
        state, task = environment.reset(seed)
        total, length, success, done = 0.0, 0, False, False
        while not done:
            action = policy.act(np.concatenate([state, task])[None], None)[0]
            state, task, reward, terminated, truncated, told = environment.step(action)
            total, length, success, done = total + reward, length + 1, success or bool(told), terminated or truncated
        returns.append(total)
        lengths.append(length)
        successes.append(success)
    assert together == (np.mean(successes), np.mean(returns), np.mean(lengths))
    assert 0 < together.success_rate < 1  # type: ignore[operator]


def test_nobody_arrives_without_moving() -> None:
    config = replace(toys.REACH, reset_options={"start": [0.0, 0.0], "goal": [0.8, 0.0]})
    result = Evaluator(config, 3, seed=0)(Straight(speed=0.0))
    assert result == (0.0, 0.0, 12.0)


def test_no_success_rate_where_none_is_told() -> None:
    class Still:
        def act(self, observations: Array, generator: object) -> Array:
            return np.zeros((len(observations), 1), np.float32)

    evaluator = Evaluator(EnvironmentConfig("Pendulum-v1", max_episode_steps=3), 2, seed=0)
    result = evaluator(Still())
    assert result.success_rate is None
    assert result.episode_length == 3
    evaluator.close()


def test_it_takes_nothing_from_the_agents_generators() -> None:
    agent = SAC(toys.SPEC, AgentConfig(width=8), toys.generator())
    evaluator = Evaluator(toys.REACH, 3, seed=0)
    assert evaluator(agent) == evaluator(agent)
