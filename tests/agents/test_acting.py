"""What acts: the actor, or a running mean of its weights, for every algorithm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

import toys
from atradiff.agents.actor_critic import ACTING, AgentConfig
from atradiff.agents.make import AGENTS, make_agent
from atradiff.agents.take_over import take_over
from atradiff.trajectory import TransitionBatch

CONFIG = AgentConfig(width=16, batch_size=24, utd_ratio=1, acting_rate=0.25, actor_learning_rate=0.1, conservative_actions=2)
OBSERVATIONS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def batch() -> TransitionBatch:
    random, count = toys.generator(2), CONFIG.batch_size
    return TransitionBatch(
        observation=torch.randn(count, 4, generator=random),
        action=torch.rand(count, 2, generator=random) * 2 - 1,
        reward=torch.randn(count, generator=random),
        next_observation=torch.randn(count, 4, generator=random),
        discount=torch.full((count,), 0.97),
        source=torch.ones(count, dtype=torch.uint8),
    )


def made(config: AgentConfig, seed: int = 0) -> Any:
    return cast("Any", make_agent(toys.SPEC, config, toys.generator(seed)))


@pytest.mark.parametrize("algorithm", AGENTS)
def test_it_follows_the_actor_at_its_rate_and_is_what_acts(algorithm: str) -> None:
    config = replace(CONFIG, algorithm=algorithm)
    agent = made(config)
    before = [p.detach().clone() for p in agent.actor.parameters()]
    agent.update(batch(), toys.generator(1))
    for old, new, acting in zip(before, agent.actor.parameters(), agent.acting.parameters(), strict=True):
        assert torch.allclose(acting, 0.75 * old + 0.25 * new, atol=1e-6)
        assert not acting.requires_grad
    best, explored = (agent.act(OBSERVATIONS, generator) for generator in (None, toys.generator(3)))
    agent.acting.load_state_dict(agent.actor.state_dict())
    assert not np.allclose(agent.act(OBSERVATIONS, None), best)
    assert not np.allclose(agent.act(OBSERVATIONS, toys.generator(3)), explored)


@pytest.mark.parametrize("algorithm", AGENTS)
def test_a_state_keeps_it_and_one_without_it_lets_the_actor_act(algorithm: str) -> None:
    config = replace(CONFIG, algorithm=algorithm)
    agent = made(config)
    agent.update(batch(), toys.generator(1))
    state = agent.state_dict()
    resumed = made(config, seed=5)
    resumed.load_state_dict(state)
    assert np.array_equal(resumed.act(OBSERVATIONS, None), agent.act(OBSERVATIONS, None))
    del state[ACTING]
    earlier = made(config, seed=6)
    take_over(earlier, config, state, "a run")
    assert all(torch.equal(a, b) for a, b in zip(earlier.acting.parameters(), agent.actor.parameters(), strict=True))


def test_at_a_rate_of_one_the_actor_itself_acts() -> None:
    agent = made(replace(CONFIG, acting_rate=1.0))
    assert agent.acting is agent.actor
    assert ACTING not in agent.state_dict()
