"""Agents that see their observations standardised: as if somebody else had done it before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import toys
from atradiff.agents.actor_critic import ActorCritic, AgentConfig
from atradiff.agents.iql import IQL
from atradiff.agents.make import AGENTS, make_agent
from atradiff.agents.pex import PEX
from atradiff.agents.take_over import take_over
from atradiff.errors import UserError
from atradiff.trajectory import TransitionBatch

MEAN, SCALE = np.array([0.5, -1, 0, 3], np.float32), np.array([0.1, 2, 1, 7], np.float32)


def made(algorithm: str) -> ActorCritic:
    config = AgentConfig(algorithm=algorithm, width=16, depth=1, batch_size=8, utd_ratio=2)  # pyright: ignore
    return make_agent(toys.SPEC, config, toys.generator(0))


def batch() -> TransitionBatch:
    random = toys.generator(1)
    observation, following = torch.randn(2, 16, 4, generator=random)
    action = torch.rand(16, 2, generator=random) * 2 - 1
    reward, discount = torch.randn(16, generator=random), torch.full((16,), 0.97)
    return TransitionBatch(observation, action, reward, following, discount, (torch.arange(16) % 3).to(torch.uint8))


@pytest.mark.parametrize("algorithm", AGENTS)
def test_the_agent_learns_and_acts_as_if_the_data_had_been_standardised(algorithm: str) -> None:
    sees, plain = made(algorithm), made(algorithm)
    sees.standardize(MEAN, SCALE)
    raw, mean, scale = batch(), torch.from_numpy(MEAN), torch.from_numpy(SCALE)
    there = raw._replace(observation=(raw.observation - mean) / scale, next_observation=(raw.next_observation - mean) / scale)
    for _ in range(3):
        sees.update(raw, toys.generator(2))
        plain.update(there, toys.generator(2))
    observations = raw.observation.numpy()
    standardised = there.observation.numpy()
    assert np.array_equal(sees.act(observations, None), plain.act(standardised, None))
    assert np.array_equal(sees.act(observations, toys.generator(3)), plain.act(standardised, toys.generator(3)))
    assert torch.equal(sees.td_error(raw, toys.generator(4)), plain.td_error(there, toys.generator(4)))
    assert not np.array_equal(sees.act(observations, None), plain.act(observations, None))


def test_what_it_sees_goes_with_its_state_and_to_who_takes_over() -> None:
    """A checkpoint brings it back, and PEX goes on with the eyes of the IQL that it expands."""
    learned, observations = made("iql"), batch().observation.numpy()
    assert isinstance(learned, IQL)
    learned.standardize(MEAN, SCALE)
    again, expanded = made("iql"), made("pex")
    again.load_state_dict(learned.state_dict())
    assert np.array_equal(again.act(observations, None), learned.act(observations, None))
    assert isinstance(expanded, PEX)
    take_over(expanded, learned.config, learned.state_dict(), "there")
    assert torch.equal(expanded.observation_mean, torch.from_numpy(MEAN))
    assert torch.equal(expanded.observation_scale, torch.from_numpy(SCALE))


def test_an_agent_of_a_version_that_did_not_tell_what_it_saw_is_refused() -> None:
    learned = made("iql")
    state = {name: part for name, part in learned.state_dict().items() if not name.startswith("observation_")}
    for algorithm in ("iql", "pex"):
        with pytest.raises(UserError, match="there was learned with an earlier version of atradiff"):
            take_over(made(algorithm), learned.config, state, "there")
