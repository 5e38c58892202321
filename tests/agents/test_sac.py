"""SAC's losses against a slow reference written sample by sample from the papers, and the loop around them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

import toys
from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.sac import SAC
from atradiff.errors import UserError
from atradiff.trajectory import Source, TransitionBatch

BATCH = 6
CONFIG = AgentConfig(
    width=16, depth=2, num_critics=3, num_min_critics=3, batch_size=BATCH, utd_ratio=2, initial_temperature=0.3, backup_entropy=True,
    imitation_weight=0.0,
)


def agent(config: AgentConfig = CONFIG, seed: int = 0) -> SAC:
    return SAC(toys.SPEC, config, toys.generator(seed))


def batch(count: int = BATCH, seed: int = 1) -> TransitionBatch:
    random = toys.generator(seed)
    return TransitionBatch(
        observation=torch.randn(count, 4, generator=random),
        action=torch.rand(count, 2, generator=random) * 2 - 1,
        reward=torch.randn(count, generator=random),
        next_observation=torch.randn(count, 4, generator=random),
        discount=torch.where(torch.arange(count) % 3 == 0, 0.0, 0.97),
        source=(torch.arange(count) % 2).to(torch.uint8),
    )


def policy(sac: SAC, observation: Tensor) -> TransformedDistribution:
    """The actor as torch.distributions has it (the toy's actions are in [-1, 1], so nothing is scaled)."""
    mean, log_std = sac.actor(observation)
    return TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), [TanhTransform(cache_size=1)])


def drawn(sac: SAC, observation: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The action that the agent's generator gives, with its log-density by torch.distributions."""
    mean, log_std = sac.actor(observation)
    distribution = policy(sac, observation)
    before = mean + log_std.exp() * torch.randn(mean.shape, generator=toys.generator(seed))
    action = distribution.transforms[0](before)
    jacobian = distribution.transforms[0].log_abs_det_jacobian(before, action).sum(-1)
    return action, Independent(Normal(mean, log_std.exp()), 1).log_prob(before) - jacobian


@torch.no_grad()
@pytest.mark.parametrize("backup_entropy", [True, False])
def test_targets(backup_entropy: bool) -> None:
    sac, transitions = agent(replace(CONFIG, backup_entropy=backup_entropy)), batch()
    with torch.no_grad():
        for parameter in sac.target_critic.parameters():  # so that the target is told from the critic
            parameter.mul_(1.3)
    action, log_density = drawn(sac, transitions.next_observation, seed=7)
    expected = []
    for i in range(BATCH):
        values = [float(sac.target_critic(transitions.next_observation[i : i + 1], action[i : i + 1])[member, 0]) for member in range(3)]
        value = min(values) - (0.3 * float(log_density[i]) if backup_entropy else 0.0)
        expected.append(float(transitions.reward[i]) + float(transitions.discount[i]) * value)
    targets = sac.targets(transitions, toys.generator(7))
    assert torch.allclose(targets, torch.tensor(expected), atol=1e-5)
    terminal = transitions.discount == 0
    assert terminal.any()
    assert torch.equal(targets[terminal], transitions.reward[terminal])


def test_critic_loss() -> None:
    sac, transitions = agent(), batch()
    targets = sac.targets(transitions, toys.generator(7))
    expected = 0.0
    for member in range(3):
        for i in range(BATCH):
            value = sac.critic(transitions.observation[i : i + 1], transitions.action[i : i + 1])[member, 0].detach()
            expected += float((value - targets[i]) ** 2) / (3 * BATCH)
    loss, logs = sac.critic_loss(transitions, toys.generator(7))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    assert float(logs["critic/loss"]) == float(loss.detach())
    loss.backward()
    assert all(p.grad is None for p in sac.target_critic.parameters())
    assert all(p.grad is None for p in sac.actor.parameters())


def test_actor_loss_and_its_gradient() -> None:
    sac, transitions = agent(), batch()
    action, log_density = drawn(sac, transitions.observation, seed=7)
    expected = (0.3 * log_density - sac.critic(transitions.observation, action).mean(0)).mean()
    loss, detached = sac.actor_loss(transitions, toys.generator(7))
    assert torch.allclose(loss, expected, atol=1e-5)
    assert torch.allclose(detached, log_density, atol=1e-4)
    assert not detached.requires_grad
    parameters = list(sac.actor.parameters())
    for ours, theirs in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_temperature_rises_where_entropy_is_below_its_target() -> None:
    sac = agent()
    assert sac.target_entropy == -0.5 * 2
    for log_density, sign in ((torch.full((4,), 3.0), -1), (torch.full((4,), -3.0), 1)):  # entropy -3: too low; 3: too high
        (gradient,) = torch.autograd.grad(sac.temperature_loss(log_density), [sac.log_temperature])
        assert torch.sign(gradient) == sign
        assert float(gradient) == pytest.approx(0.3 * (-float(log_density[0]) - sac.target_entropy), rel=1e-4)


@torch.no_grad()
def test_target_takes_the_minimum_over_a_random_subset() -> None:
    """REDQ: each target is the minimum of exactly `num_min_critics` critics, and over time all of them have their turn."""
    sac, transitions = agent(replace(CONFIG, num_critics=4, num_min_critics=2, backup_entropy=False)), batch(256)
    for parameter in sac.target_critic.parameters():  # so far apart that every pair has a minimum of its own
        parameter.mul_(3.0)
    seen = set()
    for seed in range(60):
        random = toys.generator(seed)
        action, _ = drawn(sac, transitions.next_observation, seed)
        values = sac.target_critic(transitions.next_observation, action)
        targets = sac.targets(transitions, random)
        fits = [
            (i, j)
            for i in range(4)
            for j in range(i)
            if torch.allclose(targets, transitions.reward + transitions.discount * torch.minimum(values[i], values[j]), atol=1e-6)
        ]
        assert fits
        seen.update(fits if len(fits) == 1 else [])
    assert len(seen) == 6


def test_the_actor_climbs_the_least_or_the_first_critic() -> None:
    transitions = batch()
    for value in ("min", "first"):
        sac = agent(replace(CONFIG, actor_value=value))
        action, log_density = drawn(sac, transitions.observation, seed=7)
        values = sac.critic(transitions.observation, action)
        climbed = values.amin(0) if value == "min" else values[0]
        loss, _ = sac.actor_loss(transitions, toys.generator(7))
        assert torch.allclose(loss, (0.3 * log_density - climbed).mean(), atol=1e-5)


@torch.no_grad()
def test_dropout_is_on_in_all_losses_and_off_in_what_is_measured() -> None:
    """DroQ: critics, their targets and what the actor climbs are each drawn anew; the error of transitions looks at whole critics."""
    sac, transitions = agent(replace(CONFIG, dropout=0.5, backup_entropy=False)), batch()
    random = toys.generator(7)
    action = sac.actor.act(transitions.next_observation, torch.randn(BATCH, 2, generator=random))
    value = sac.target_critic(transitions.next_observation, action, generator=random).amin(0)
    targets = sac.targets(transitions, toys.generator(7))
    assert torch.equal(targets, transitions.reward + transitions.discount * value)
    random = toys.generator(7)
    values = sac.critic(transitions.observation, transitions.action, generator=random)
    loss, _ = sac.critic_loss(transitions, toys.generator(7))
    assert torch.equal(loss, (values - sac.targets(transitions, random)).pow(2).mean())
    climbed = sac.critic(transitions.observation, action, generator=toys.generator(3)).mean(0)
    assert torch.equal(sac.actor_value(transitions.observation, action, toys.generator(3)), climbed)
    whole = sac.critic(transitions.observation, transitions.action)
    assert not torch.allclose(values, whole)
    assert torch.equal(sac.td_error(transitions, toys.generator(7)), (whole.mean(0) - targets).abs())


def test_target_critic_follows_at_tau() -> None:
    sac = agent(replace(CONFIG, tau=0.25))
    before = [p.clone() for p in sac.target_critic.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, sac.critic.parameters(), strict=True))
    sac.update(batch(), toys.generator())
    assert all(p.is_leaf and not p.requires_grad for p in sac.target_critic.parameters())  # or every update would be kept for ever
    for old, new, target in zip(before, sac.critic.parameters(), sac.target_critic.parameters(), strict=True):
        assert torch.allclose(target, 0.75 * old + 0.25 * new, atol=1e-6)


def test_update_takes_one_critic_step_a_part_and_one_actor_step_in_all() -> None:
    sac = agent()
    actor_before = [p.detach().clone() for p in sac.actor.parameters()]
    logs = sac.update(batch(4 * BATCH), toys.generator())
    assert sac.gradient_steps == 4
    assert [int(sac.actor_optimizer.state_dict()["steps"]), int(sac.critic_optimizer.state_dict()["steps"])] == [1, 4]
    assert any(not torch.equal(a, b) for a, b in zip(actor_before, sac.actor.parameters(), strict=True))
    assert all(p.requires_grad for p in sac.critic.parameters())
    assert set(logs) >= {"critic/loss", "critic/value", "actor/loss", "actor/entropy", "temperature"}
    assert all(torch.isfinite(value) for value in logs.values())


def test_actor_does_not_move_the_critics() -> None:
    sac = agent()
    critic_before = [p.detach().clone() for p in sac.critic.parameters()]
    sac.critic_optimizer.learning_rate = 0.0
    actor_before = sac.actor_optimizer.flat.clone()
    sac.update(batch(), toys.generator())
    assert not torch.equal(actor_before, sac.actor_optimizer.flat)
    assert all(torch.equal(a, b) for a, b in zip(critic_before, sac.critic.parameters(), strict=True))


def test_imitation_pulls_the_mode_towards_imagined_actions_alone() -> None:
    sac, transitions = agent(replace(CONFIG, imitation_weight=2.0, imitation_filter=False)), batch()
    plain, _ = agent().actor_loss(transitions, toys.generator(7))
    loss, _ = sac.actor_loss(transitions, toys.generator(7))
    mode = sac.actor.mode(transitions.observation)
    imagined = transitions.source == Source.IMAGINED
    expected = 2.0 * (mode - transitions.action)[imagined].square().sum() / BATCH
    assert float((loss - plain).detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_imitation_filter_leaves_out_what_the_critics_think_worse() -> None:
    sac, transitions = agent(replace(CONFIG, imitation_weight=1.0, imitation_filter=True)), batch(64)
    plain, _ = agent().actor_loss(transitions, toys.generator(7))
    loss, _ = sac.actor_loss(transitions, toys.generator(7))
    mode = sac.actor.mode(transitions.observation)
    value = sac.critic(transitions.observation, transitions.action).mean(0), sac.critic(transitions.observation, mode).mean(0)
    better = (transitions.source == Source.IMAGINED) & (value[0] > value[1])
    assert 0 < int(better.sum()) < 32
    expected = (mode - transitions.action)[better].square().sum() / 64
    assert float((loss - plain).detach()) == pytest.approx(float(expected.detach()), rel=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_everything_is_the_generators(dropout: float) -> None:
    """Same seeds, same bits; the global generator is neither used nor moved."""
    global_state, config = torch.get_rng_state(), replace(CONFIG, dropout=dropout)
    first, second, other = agent(config), agent(config), agent(config, seed=9)
    for sac in (first, second, other):
        random = toys.generator(3)
        for _ in range(3):
            sac.update(batch(2 * BATCH), random)
    observations = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    assert np.array_equal(first.act(observations, toys.generator(1)), second.act(observations, toys.generator(1)))
    assert not np.array_equal(first.act(observations, toys.generator(1)), first.act(observations, toys.generator(2)))
    assert not np.array_equal(first.act(observations, None), other.act(observations, None))
    assert np.array_equal(first.act(observations, None), first.act(observations, None))
    assert torch.equal(global_state, torch.get_rng_state())


def test_td_error_is_the_mean_critics_distance_to_the_target() -> None:
    sac, transitions = agent(), batch()
    targets = sac.targets(transitions, toys.generator(7))
    values = sac.critic(transitions.observation, transitions.action).mean(0)
    assert torch.allclose(sac.td_error(transitions, toys.generator(7)), (values - targets).abs().detach(), atol=1e-6)


def test_state_dict_goes_on_bit_for_bit() -> None:
    straight, stopped, resumed = agent(), agent(), agent(seed=5)
    random = toys.generator(3)
    straight.update(batch(2 * BATCH), random)
    stopped.update(batch(2 * BATCH), toys.generator(3))
    resumed.load_state_dict(stopped.state_dict())
    again = toys.generator(0)
    again.set_state(random.get_state())
    for seed in range(2):
        straight.update(batch(2 * BATCH, seed), random)
        resumed.update(batch(2 * BATCH, seed), again)
    assert resumed.gradient_steps == straight.gradient_steps == 6
    assert torch.equal(resumed.log_temperature, straight.log_temperature)
    for name in ("actor", "critic", "target_critic"):
        pairs = zip(getattr(resumed, name).parameters(), getattr(straight, name).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_fixed_temperature_stays() -> None:
    sac = agent(replace(CONFIG, temperature_learning_rate=0.0))
    sac.update(batch(), toys.generator())
    assert float(sac.log_temperature.detach().exp()) == pytest.approx(0.3)


def test_more_minimum_critics_than_critics() -> None:
    with pytest.raises(UserError, match=r"num_min_critics 3 is more than agent.num_critics 2"):
        agent(replace(CONFIG, num_critics=2))


def test_it_learns_a_bandit() -> None:
    """One step, reward -(a - 0.5)^2: the deterministic action finds 0.5."""
    sac = agent(AgentConfig(width=32, batch_size=64, initial_temperature=0.01, critic_learning_rate=1e-2, actor_learning_rate=1e-2))
    assert toys.bandit_error(sac) < 0.2
