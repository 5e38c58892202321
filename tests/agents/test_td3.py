"""TD3's losses against a slow reference written from the paper, and what it has in common with SAC."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import toys
from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.make import make_agent
from atradiff.agents.sac import SAC
from atradiff.agents.td3 import TD3
from atradiff.trajectory import Spec, TransitionBatch

BATCH = 6
CONFIG = AgentConfig(
    algorithm="td3", width=16, depth=2, batch_size=BATCH, utd_ratio=2, target_noise=0.4, target_noise_clip=0.3, imitation_weight=0.0
)
WIDE = Spec(state_dim=2, action_dim=2, task_dim=2, action_low=(-1.0, 0.0), action_high=(3.0, 0.5))


def agent(config: AgentConfig = CONFIG, spec: Spec = WIDE) -> TD3:
    made = make_agent(spec, config, toys.generator(0))
    assert isinstance(made, TD3)
    return made


def batch(count: int = BATCH, seed: int = 1) -> TransitionBatch:
    random = toys.generator(seed)
    low, high = torch.tensor(WIDE.action_low), torch.tensor(WIDE.action_high)
    return TransitionBatch(
        observation=torch.randn(count, 4, generator=random),
        action=low + (high - low) * torch.rand(count, 2, generator=random),
        reward=torch.randn(count, generator=random),
        next_observation=torch.randn(count, 4, generator=random),
        discount=torch.where(torch.arange(count) % 3 == 0, 0.0, 0.97),
        source=(torch.arange(count) % 2).to(torch.uint8),
    )


def one_by_one(td3: TD3, transitions: TransitionBatch, noise: Tensor) -> Tensor:
    """The targets sample by sample: clipped noise, clipped action, the smaller of the two target critics."""
    targets: list[float] = []
    for i in range(len(transitions.reward)):
        following = transitions.next_observation[i : i + 1]
        mode = td3.target_actor(following)[0]
        action = torch.empty(2)
        for a in range(2):
            low, high = WIDE.action_low[a], WIDE.action_high[a]
            step = max(-0.3, min(0.3, 0.4 * float(noise[i, a]))) * (high - low) / 2
            action[a] = max(low, min(high, float(mode[a]) + step))
        value = min(float(q) for q in td3.target_critic(following, action[None])[:, 0])
        targets.append(float(transitions.reward[i]) + float(transitions.discount[i]) * value)
    return torch.tensor(targets)


@torch.no_grad()
def test_targets() -> None:
    td3, transitions = agent(), batch()
    noise = torch.randn(BATCH, 2, generator=toys.generator(7))
    assert torch.allclose(td3.targets(transitions, toys.generator(7)), one_by_one(td3, transitions, noise), atol=1e-5)


def test_actor_loss_is_minus_the_value_of_its_action() -> None:
    td3, transitions = agent(), batch()
    values = [td3.critic(o[None], td3.actor(o[None])).mean().item() for o in transitions.observation]
    assert td3.actor_loss(transitions, toys.generator()).item() == pytest.approx(-np.mean(values), abs=1e-5)


@pytest.mark.parametrize("value", ["min", "first"])
def test_the_actor_climbs_the_least_or_the_first_critic(value: str) -> None:
    td3, transitions = agent(replace(CONFIG, actor_value=value)), batch()
    values = td3.critic(transitions.observation, td3.actor(transitions.observation))
    expected = -(torch.minimum(values[0], values[1]) if value == "min" else values[0]).mean()
    assert torch.allclose(td3.actor_loss(transitions, toys.generator()), expected, atol=1e-6)


def test_imitation_is_the_distance_to_imagined_actions_alone() -> None:
    td3, transitions = agent(), batch()
    imitating = agent(replace(CONFIG, imitation_weight=2.0))
    half = torch.tensor([2.0, 0.25])
    distance = ((td3.actor(transitions.observation) - transitions.action) / half).pow(2).sum(-1)
    added = 2.0 * (distance * (transitions.source != 0)).mean().item()
    difference = imitating.actor_loss(transitions, toys.generator()) - td3.actor_loss(transitions, toys.generator())
    assert difference.item() == pytest.approx(added, rel=1e-4)


def test_actions_keep_within_the_range() -> None:
    wild = agent(replace(CONFIG, exploration_noise=5.0))
    observations = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    actions = wild.act(observations, toys.generator())
    assert (actions >= WIDE.action_low).all()
    assert (actions <= WIDE.action_high).all()
    assert not np.array_equal(actions, wild.act(observations, None))
    assert np.array_equal(wild.act(observations, None), wild.act(observations, None))


def test_targets_follow_at_tau() -> None:
    td3 = agent(replace(CONFIG, tau=0.25))
    before = [p.clone() for p in td3.target_actor.parameters()]
    td3.update(batch(2 * BATCH), toys.generator())
    for old, target, new in zip(before, td3.target_actor.parameters(), td3.actor.parameters(), strict=True):
        assert torch.allclose(target, old + 0.25 * (new - old), atol=1e-6)
    assert td3.gradient_steps == 2


def test_state_dict_goes_on_bit_for_bit() -> None:
    one, other = agent(), agent()
    one.update(batch(2 * BATCH), toys.generator(3))
    other.load_state_dict(one.state_dict())
    for trained in (one, other):
        trained.update(batch(2 * BATCH, seed=5), toys.generator(4))
    assert all(torch.equal(a, b) for a, b in zip(one.actor.parameters(), other.actor.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one.target_critic.parameters(), other.target_critic.parameters(), strict=True))


def test_it_learns_a_bandit() -> None:
    """One step, reward -(a - 0.5)^2: the deterministic action finds 0.5."""
    config = replace(CONFIG, width=32, batch_size=64, utd_ratio=1, critic_learning_rate=1e-2, actor_learning_rate=3e-3)
    assert toys.bandit_error(agent(config, toys.SPEC)) < 0.2


def test_the_config_names_the_agent() -> None:
    assert isinstance(make_agent(toys.SPEC, AgentConfig(), toys.generator()), SAC)
    assert isinstance(make_agent(toys.SPEC, CONFIG, toys.generator()), TD3)
