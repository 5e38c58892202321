"""Ensembles against one network at a time, and the density of the squashed Gaussian against brute force."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import toys
from atradiff.agents.networks import CriticEnsemble, EnsembleMLP, TanhGaussianActor, dropped_units


@pytest.mark.parametrize("layer_norm", [True, False])
def test_each_member_is_a_network_of_its_own(layer_norm: bool) -> None:
    random = toys.generator()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        critics = CriticEnsemble(3, 4, 2, 8, 2, layer_norm)
    observation, action = torch.randn(5, 4, generator=random), torch.randn(5, 2, generator=random)
    values = critics(observation, action)
    assert values.shape == (3, 5)
    for member in range(3):
        x = torch.cat([observation, action], -1)
        assert torch.allclose(values[member], slowly(critics.net, x, member)[:, 0], atol=1e-5)
    assert not torch.allclose(values[0], values[1])
    assert torch.equal(critics(observation, action, torch.tensor([2, 0])), values[[2, 0]])


def slowly(net: EnsembleMLP, x: Tensor, member: int, masks: Sequence[Tensor] = ()) -> Tensor:
    """One network of the ensemble, in plain operations that autograd follows by itself."""
    layers = list(zip(net.weights, net.biases, strict=True))
    for k, (weight, bias) in enumerate(layers[:-1]):
        x = x @ weight[member] + bias[member]
        if masks:
            x = x * masks[k][member]
        if net.layer_norm:
            x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        x = x.relu()
    return x @ layers[-1][0][member] + layers[-1][1][member]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_gradients_are_autograds_own(layer_norm: bool, depth: int, dropout: float) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = EnsembleMLP(3, [4, *[8] * depth, 2], layer_norm, dropout).double()
    x = torch.randn(5, 4, generator=toys.generator(), dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, 2, generator=toys.generator(1), dtype=torch.float64)
    learned = [x, *net.parameters()]
    masks = net.draw_masks(3, len(x), toys.generator(7))
    ours = torch.autograd.grad((net(x, generator=toys.generator(7)) * weight).sum(), learned)
    reference = torch.stack([slowly(net, x, member, masks) for member in range(3)])
    theirs = torch.autograd.grad((reference * weight).sum(), learned)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-10)
    net.requires_grad_(False)
    (of_x,) = torch.autograd.grad((net(x, generator=toys.generator(7)) * weight).sum(), [x])
    assert torch.allclose(of_x, theirs[0], atol=1e-10)


def test_units_are_dropped_each_for_itself() -> None:
    """How often each of 50 units is dropped, alone and together with the next, in 1,000 draws; also where all or hardly any are."""
    random, count = toys.generator(), 1_000
    for chance in (0.001, 0.1, 0.9):
        dropped = torch.zeros(count, 50)
        for row in dropped:
            row[dropped_units(50, chance, random)] = 1
        for share, expected in ((dropped.mean(0), chance), ((dropped[:, 1:] * dropped[:, :-1]).mean(0), chance**2)):
            error = (share - expected) / math.sqrt(expected * (1 - expected) / count)
            assert float(error.abs().max()) < 5 or expected < 1e-5
            assert abs(float(error.mean())) < 1


@torch.no_grad()
def test_units_are_dropped_by_the_generator_alone_and_their_mean_stays() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = EnsembleMLP(2, [4, 64, 1], layer_norm=False, dropout=0.25)
    x = torch.randn(400, 4, generator=toys.generator())
    net.biases[0] += 10  # no unit rests, so that the output is linear in what is dropped
    first, again, other = (net(x, generator=toys.generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    draws = torch.stack([net(x, generator=toys.generator(seed)) for seed in range(100)])
    error = (draws.mean(0) - net(x)) / (draws.std(0) / math.sqrt(100))
    assert float(error.abs().mean()) < 1.0  # 0.8 is a unit normal's


def test_without_dropout_nothing_is_drawn() -> None:
    critics = CriticEnsemble(2, 4, 2, 8, 2, layer_norm=True)
    random = toys.generator()
    before, x = random.get_state(), torch.zeros(5, 4)
    assert torch.equal(critics(x, x[:, :2], generator=random), critics(x, x[:, :2]))
    assert torch.equal(before, random.get_state())


def actor(low: float = -0.5, high: float = 2.0) -> TanhGaussianActor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TanhGaussianActor(3, torch.full((1,), low), torch.full((1,), high), 8, 1)


@torch.no_grad()
def test_density_of_the_squashed_gaussian() -> None:
    """A histogram of many samples, in units of the squashed action, against the log-density that comes with each."""
    model = actor()
    observation = torch.tensor([[0.3, -0.2, 1.0]]).expand(200_000, 3)
    action, log_density = model.sample(*model(observation), torch.randn(200_000, 1, generator=toys.generator()))
    squashed = ((action - 0.75) / 1.25)[:, 0]
    for left in (-0.6, -0.2, 0.2, 0.5):
        inside = (squashed >= left) & (squashed < left + 0.1)
        density = float(inside.float().mean()) / 0.1
        assert density == pytest.approx(float(log_density[inside].exp().mean()), rel=0.05)


@torch.no_grad()
def test_actions_stay_in_their_range_and_the_mode_is_the_mean() -> None:
    model = actor()
    observation = 5 * torch.randn(500, 3, generator=toys.generator())
    action, log_density = model.sample(*model(observation), 30 * torch.randn(500, 1, generator=toys.generator(1)))
    assert ((action >= -0.5) & (action <= 2.0)).all()
    assert torch.isfinite(log_density).all()
    mean, _ = model(observation)
    assert torch.allclose(model.mode(observation), 0.75 + 1.25 * torch.tanh(mean))
    assert torch.allclose(model.sample(*model(observation), torch.zeros(500, 1))[0], model.mode(observation))


@torch.no_grad()
def test_log_density_is_exact_far_out_in_the_tails() -> None:
    """log(1 - tanh^2) in its stable form: no infinities where tanh has saturated in float32."""
    model = actor()
    observation, noise = torch.zeros(1, 3), torch.tensor([[40.0]])
    mean, log_std = (value.double() for value in model(observation))
    before = mean + log_std.exp() * 40
    log_slope = 2 * math.log(2) - 2 * before - 2 * torch.log1p(torch.exp(-2 * before))
    expected = -0.5 * 40**2 - log_std - 0.5 * math.log(2 * math.pi) - log_slope
    assert float(model.sample(*model(observation), noise)[1]) == pytest.approx(float(expected), rel=1e-4)
