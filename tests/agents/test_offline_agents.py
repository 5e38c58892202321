"""TD3+BC, IQL, PEX and Cal-QL against their formulas, sample by sample; what they share is tested with SAC and TD3."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
import torch

import toys
from atradiff.agents.actor_critic import ActorCritic, AgentConfig
from atradiff.agents.calql import CalQL
from atradiff.agents.iql import IQL
from atradiff.agents.make import AGENTS, make_agent
from atradiff.agents.pex import PEX
from atradiff.agents.sac import SAC
from atradiff.agents.take_over import take_over
from atradiff.agents.td3 import TD3
from atradiff.agents.td3bc import TD3BC
from atradiff.errors import UserError
from atradiff.trajectory import Spec, TransitionBatch

BATCH = 6
CONFIG = AgentConfig(width=16, depth=2, batch_size=BATCH, utd_ratio=2, conservative_actions=3)
WIDE = Spec(state_dim=2, action_dim=2, task_dim=2, action_low=(-1.0, 0.0), action_high=(3.0, 0.5))
HALF = torch.tensor([2.0, 0.25])
Agent = TypeVar("Agent", bound=ActorCritic)
OFFLINE = ["td3bc", "iql", "pex", "calql"]


def agent(kind: type[Agent], spec: Spec = WIDE, **settings: object) -> Agent:
    name = next(name for name, known in AGENTS.items() if known is kind)
    made = make_agent(spec, replace(CONFIG, algorithm=name, **settings), toys.generator(0))  # type: ignore[arg-type]
    assert isinstance(made, kind)
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
        source=(torch.arange(count) % 3).to(torch.uint8),
    )


def test_td3bc_weighs_the_value_by_its_size_and_imitates_every_action() -> None:
    td3bc, transitions = agent(TD3BC, actor_value="first", value_weight=1.7), batch()
    modes = td3bc.actor(transitions.observation)
    values = [td3bc.critic(o[None], m[None])[0, 0].item() for o, m in zip(transitions.observation, modes, strict=True)]
    imitation = np.mean([((m - a) / HALF).square().mean().item() for m, a in zip(modes, transitions.action, strict=True)])
    expected = imitation - 1.7 / np.mean(np.abs(values)) * np.mean(values)
    assert td3bc.actor_loss(transitions, toys.generator()).item() == pytest.approx(expected, abs=1e-5)


def test_iql_losses() -> None:
    iql, transitions = agent(IQL, expectile=0.8, advantage_scale=2.0), batch()
    iql.actor.log_std.data = torch.tensor([-0.5, 0.3])
    value, imitated = 0.0, 0.0
    for i in range(BATCH):
        state, action = transitions.observation[i : i + 1], transitions.action[i : i + 1]
        above = iql.target_critic(state, action).min().item() - iql.value(state).item()
        value += (0.8 if above > 0 else 0.2) * above**2 / BATCH
        distance = ((action - iql.actor.mode(state)) / HALF)[0]
        spread = torch.distributions.Normal(torch.zeros(2), torch.tensor([-0.5, 0.3]).exp())
        imitated += min(100.0, math.exp(2.0 * above)) * spread.log_prob(distance).sum().item() / BATCH
    assert iql.value_loss(transitions).item() == pytest.approx(value, abs=1e-5)
    assert iql.actor_loss(transitions).item() == pytest.approx(-imitated, abs=1e-4)
    targets = iql.targets(transitions, toys.generator())
    following = torch.stack([iql.value(o[None])[0, 0, 0] for o in transitions.next_observation])
    assert torch.allclose(targets, transitions.reward + transitions.discount * following, atol=1e-6)


def test_iql_weights_have_a_limit() -> None:
    iql, transitions = agent(IQL, advantage_scale=1e6), batch()
    assert math.isfinite(iql.actor_loss(transitions).item())


@torch.no_grad()
def test_pex_takes_the_action_that_the_critics_prefer() -> None:
    pex = agent(PEX, selection_temperature=0.05)
    for parameter in pex.offline_actor.parameters():
        parameter.add_(0.5)
    observations = np.random.default_rng(0).standard_normal((400, 4)).astype(np.float32)
    state = torch.from_numpy(observations)
    proposals = torch.stack([pex.offline_actor.mode(state), pex.actor.mode(state)])
    values = torch.stack([pex.critic(state, proposal).amin(0) for proposal in proposals])
    chances = (values / 0.05).exp() / (values / 0.05).exp().sum(0)
    assert torch.allclose(pex.selection_chances(state, proposals), chances, atol=1e-5)
    better = proposals[values.argmax(0), torch.arange(400)]
    assert np.array_equal(pex.act(observations, None), better.numpy())
    for actor in (pex.acting, pex.offline_actor):
        actor.log_std.data.fill_(-5.0)
    drawn = torch.from_numpy(pex.act(observations, toys.generator()))
    new = ((drawn - proposals[1]) / HALF).norm(dim=-1) < ((drawn - proposals[0]) / HALF).norm(dim=-1)
    assert new.float().mean().item() == pytest.approx(chances[1].mean().item(), abs=0.05)


def test_pex_keeps_the_offline_policy_as_it_is() -> None:
    iql, pex = agent(IQL), agent(PEX)
    for seed in range(3):
        iql.update(batch(2 * BATCH, seed), toys.generator())
    take_over(pex, iql.config, iql.state_dict(), "here")
    fresh = [p.clone() for p in pex.actor.parameters()]
    pex.update(batch(2 * BATCH, 9), toys.generator())
    assert all(torch.equal(a, b) for a, b in zip(pex.offline_actor.parameters(), iql.acting.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(pex.actor.parameters(), fresh, strict=True))
    assert pex.gradient_steps == 8


def conservative(calql: CalQL, transitions: TransitionBatch, floor: bool) -> float:
    """Cal-QL's regulariser state by state and action by action, from the same draws."""
    random = toys.generator(5)
    noise = [torch.randn(BATCH * 3, 2, generator=random).view(BATCH, 3, 2) for _ in range(2)]
    anywhere = torch.rand(BATCH, 3, 2, generator=random)
    total = 0.0
    for i in range(BATCH):
        here, logits = transitions.observation[i : i + 1], []
        reference = calql.reference(here).item() if floor else -math.inf
        for observation, noises in ((transitions.observation, noise[0]), (transitions.next_observation, noise[1])):
            mean, log_std = calql.actor(observation[i : i + 1])
            for one in noises[i]:
                before = mean[0] + log_std[0].exp() * one
                squashed = torch.tanh(before)
                density = torch.distributions.Normal(mean[0], log_std[0].exp()).log_prob(before) - torch.log(1 - squashed**2)
                value = calql.critic(here, torch.tensor([[1.0, 0.25]]) + HALF * squashed[None])[:, 0]
                logits.append(value.clamp(min=reference) - density.sum())
        for one in anywhere[i]:
            action = torch.tensor([-1.0, 0.0]) + torch.tensor([4.0, 0.5]) * one
            logits.append(calql.critic(here, action[None])[:, 0] - 2 * math.log(0.5))
        shown = calql.critic(here, transitions.action[i : i + 1])[:, 0]
        total += (torch.logsumexp(torch.stack(logits), 0) - shown).mean().item() / BATCH
    return total


@pytest.mark.parametrize("floor", [True, False])
def test_calql_holds_down_what_the_data_does_not_show_but_not_below_the_reference(floor: bool) -> None:
    calql, transitions = agent(CalQL), batch()
    with torch.no_grad():
        calql.reference.biases[-1].fill_(0.05 if floor else -1e6)
    found = calql.conservative_loss(transitions, toys.generator(5)).item()
    assert found == pytest.approx(conservative(calql, transitions, floor), abs=1e-4)


def test_calql_critics_learn_from_both() -> None:
    calql, transitions = agent(CalQL, conservative_weight=3.0), batch()
    random, same = toys.generator(4), toys.generator(4)
    loss, logs = calql.critic_loss(transitions, random)
    plain, _ = SAC.critic_loss(calql, transitions, same)
    expected = plain + 3.0 * calql.conservative_loss(transitions, same)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert "critic/conservative" in logs


def test_calql_learns_what_the_data_is_worth() -> None:
    """One state that earns 1 and ends: that is what it is worth."""
    calql = agent(CalQL, critic_learning_rate=1e-2)
    transitions = batch(2 * BATCH)._replace(reward=torch.ones(2 * BATCH), discount=torch.zeros(2 * BATCH))
    for _ in range(150):
        calql.reference_optimizer.minimize(calql.reference_loss(transitions))
    assert torch.allclose(calql.reference(transitions.observation), torch.ones(1), atol=0.05)


@pytest.mark.parametrize("name", OFFLINE)
def test_state_dict_goes_on_bit_for_bit(name: str) -> None:
    one, other = (agent(AGENTS[name]) for _ in range(2))
    one.update(batch(2 * BATCH), toys.generator(3))
    other.load_state_dict(one.state_dict())
    logs = [trained.update(batch(2 * BATCH, seed=5), toys.generator(4)) for trained in (one, other)]
    assert logs[0].keys() == logs[1].keys()
    assert all(torch.equal(logs[0][key], logs[1][key]) for key in logs[0])
    observations = batch().observation.numpy()
    assert np.array_equal(one.act(observations, toys.generator(6)), other.act(observations, toys.generator(6)))


@pytest.mark.parametrize("name", OFFLINE)
def test_actions_keep_within_the_range(name: str) -> None:
    observations = 10 * np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    wild = agent(AGENTS[name])
    for generator in (toys.generator(), None):
        actions = wild.act(observations, generator)
        assert (actions >= WIDE.action_low).all()
        assert (actions <= WIDE.action_high).all()


def test_iql_prefers_the_better_of_the_actions_shown() -> None:
    """One step, reward -(a - 0.5)^2, actions from everywhere: imitation alone would end at 0."""
    settings = {"width": 32, "batch_size": 64, "utd_ratio": 1, "critic_learning_rate": 1e-2, "actor_learning_rate": 3e-3}
    assert toys.bandit_error(agent(IQL, toys.SPEC, **settings, advantage_scale=30.0)) < 0.25


@pytest.mark.parametrize(("learned", "then"), [(TD3BC, TD3), (CalQL, SAC), (IQL, IQL)])
def test_an_agent_goes_on_from_another_that_has_its_parts(learned: type[ActorCritic], then: type[ActorCritic]) -> None:
    offline, online = agent(learned), then(WIDE, replace(CONFIG, algorithm="sac"), toys.generator(1))
    offline.update(batch(2 * BATCH), toys.generator())
    take_over(online, offline.config, offline.state_dict(), "here")
    observations = batch().observation.numpy()
    assert np.array_equal(online.act(observations, None), offline.act(observations, None))


def test_one_without_the_parts_or_with_other_networks_is_refused() -> None:
    iql = agent(IQL)
    with pytest.raises(UserError, match="td3 cannot go on from runs/x, which learned by iql"):
        take_over(agent(TD3), iql.config, iql.state_dict(), "runs/x")
    with pytest.raises(UserError, match=r"runs/x was learned with agent.width 16, but this run has 32: give it --set agent.width=16"):
        take_over(agent(IQL, width=32), iql.config, iql.state_dict(), "runs/x")
