"""EDM preconditioning in the directions of the conditional Gaussian, and the pinned first state."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import toys
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.data.windows import Windows
from atradiff.diffusion.backbone import ConditionEmbedding, NetworkConfig, at_levels, attention, in_bfloat16
from atradiff.diffusion.denoiser import Denoiser, NoiseConfig, train_denoiser
from atradiff.diffusion.preconditioner import PreconditionerConfig, pin
from atradiff.diffusion.sampler import SamplerConfig, sample
from atradiff.diffusion.training import TrainConfig
from atradiff.errors import UserError

BATCH = 6
STATES = np.asarray([[0.3, -0.2], [0.9, 0.9]], np.float32)
TASKS = np.asarray([[0.0, 0.5], [-0.5, 0.1]], np.float32)


class Fixed(nn.Module):
    """A raw network that answers a constant and keeps what it was asked."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, z: Tensor, noise_level: Tensor, condition: Tensor) -> Tensor:
        self.asked.append((z, noise_level, condition))
        return torch.full_like(z, self.value)


def with_backbone(denoiser: Denoiser, backbone: nn.Module) -> Denoiser:
    replaced = copy.deepcopy(denoiser)
    replaced.backbone = backbone
    return replaced


@pytest.fixture
def denoiser(trained_denoisers: list[Denoiser]) -> Denoiser:
    return trained_denoisers[0]


@pytest.fixture
def question(denoiser: Denoiser) -> tuple[Tensor, Tensor, Tensor]:
    """(x, state, task) of a batch."""
    random = toys.generator(5)
    x = torch.randn(BATCH, denoiser.horizon, denoiser.normalizer.num_channels, generator=random)
    return x, torch.randn(BATCH, 2, generator=random), torch.randn(BATCH, 2, generator=random)


def levels(sigma: float) -> Tensor:
    return torch.full((BATCH,), sigma)


def random_coefficients(denoiser: Denoiser) -> Tensor:
    """Coefficients of windows drawn from the conditional Gaussian itself, `[B, R]`."""
    return torch.randn(BATCH, denoiser.gaussian.rank, generator=toys.generator(6)) * denoiser.gaussian.variance.sqrt()


@torch.no_grad()
def test_no_noise_no_change_within_the_basis(denoiser: Denoiser, question: tuple[Tensor, Tensor, Tensor]) -> None:
    """c_skip -> 1 and c_out -> 0: D(x; sigma -> 0) = x, whatever the network says."""
    _, state, task = question
    x = denoiser.gaussian.mean(torch.cat([state, task], -1)) + denoiser.gaussian.lift(random_coefficients(denoiser))
    x = pin(x, state)
    answer = with_backbone(denoiser, Fixed(1.0)).denoise(x, levels(1e-6), state, task)
    assert torch.allclose(answer, x, atol=1e-3)


@torch.no_grad()
def test_all_noise_gives_the_mean_plus_what_the_network_says(denoiser: Denoiser, question: tuple[Tensor, Tensor, Tensor]) -> None:
    """c_skip -> 0 and c_out -> sqrt(v): far out the network speaks in units of the data's deviation."""
    x, state, task = question
    mean = denoiser.gaussian.mean(torch.cat([state, task], -1))
    said = denoiser.gaussian.lift(denoiser.gaussian.variance.sqrt().expand(BATCH, -1))
    answer = with_backbone(denoiser, Fixed(1.0)).denoise(1e5 * x, levels(1e5), state, task)
    assert torch.allclose(answer, pin(mean + said, state), atol=2e-2)


@torch.no_grad()
@pytest.mark.parametrize("sigma", [0.02, 0.5, 3.0, 40.0])
def test_a_silent_network_leaves_the_exact_posterior_mean(
    denoiser: Denoiser, question: tuple[Tensor, Tensor, Tensor], sigma: float
) -> None:
    """E[x0 | x0 + sigma n] of N(m, U V U^T), by the textbook's formula over the whole window and not by directions."""
    x, state, task = question
    gaussian = denoiser.gaussian
    mean = gaussian.mean(torch.cat([state, task], -1)).flatten(1).double()
    basis = gaussian.basis.double()
    covariance = basis @ torch.diag(gaussian.variance.double()) @ basis.T
    gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(len(covariance), dtype=torch.float64))
    posterior = (mean + (x.flatten(1).double() - mean) @ gain.T).float().view_as(x)
    answer = with_backbone(denoiser, Fixed(0.0)).denoise(x, levels(sigma), state, task)
    assert torch.allclose(answer, pin(posterior, state), atol=2e-4)


@torch.no_grad()
@pytest.mark.parametrize("sigma", [0.01, 1.0, 40.0])
def test_network_sees_unit_variance_in_every_direction(denoiser: Denoiser, sigma: float) -> None:
    """Windows from the Gaussian plus noise arrive at the network with mean 0 and variance 1, at every noise level."""
    count = 3_000
    random = toys.generator(7)
    state, task = torch.randn(count, 2, generator=random), torch.randn(count, 2, generator=random)
    coefficients = torch.randn(count, denoiser.gaussian.rank, generator=random) * denoiser.gaussian.variance.sqrt()
    clean = denoiser.gaussian.mean(torch.cat([state, task], -1)) + denoiser.gaussian.lift(coefficients)
    spy = Fixed(0.0)
    noise = torch.randn(clean.shape, generator=random)
    with_backbone(denoiser, spy).denoise(clean + sigma * noise, torch.full((count,), sigma), state, task)
    z, noise_level, condition = spy.asked[0]
    assert torch.allclose(z.mean(0), torch.zeros(z.shape[1]), atol=0.1)
    assert torch.allclose(z.std(0), torch.ones(z.shape[1]), atol=0.08)
    assert torch.allclose(noise_level, torch.full((count,), float(np.log(sigma) / 4)))  # c_noise of table 1
    assert torch.equal(condition, torch.cat([state, task], -1))


@torch.no_grad()
def test_network_learns_a_target_of_unit_variance(denoiser: Denoiser) -> None:
    """c_out makes what the network should say, (x0 - c_skip x) / c_out, a unit-variance target for Gaussian data (appendix B.6)."""
    variance, random = denoiser.gaussian.variance, toys.generator(8)
    x0 = torch.randn(4_000, len(variance), generator=random) * variance.sqrt()
    noise = torch.randn(x0.shape, generator=random)
    with_one, with_zero = with_backbone(denoiser, Fixed(1.0)), with_backbone(denoiser, Fixed(0.0))
    condition = torch.zeros(4_000, 4)
    mean = denoiser.gaussian.mean(condition)
    for sigma in (0.1, 2.0):
        level = torch.full((4_000,), sigma)
        x = mean + denoiser.gaussian.lift(x0 + sigma * noise)
        skip, skip_and_out = (
            denoiser.gaussian.project(d.denoise(x, level, condition[:, :2], condition[:, 2:]) - mean) for d in (with_zero, with_one)
        )
        target = (x0 - skip) / (skip_and_out - skip)
        assert torch.allclose(target.std(0), torch.ones(len(variance)), atol=0.08)


def test_first_state_is_pinned_in_every_answer(denoiser: Denoiser, question: tuple[Tensor, Tensor, Tensor]) -> None:
    x, state, task = question
    for sigma in (0.01, 1.0, 50.0):
        assert torch.equal(denoiser.denoise(x, levels(sigma), state, task)[:, 0, :2], state)


@pytest.mark.parametrize("solver", ["dpm", "heun", "euler"])
def test_first_state_is_pinned(denoiser: Denoiser, solver: str) -> None:
    rows = denoiser.sample(STATES, TASKS, SamplerConfig(solver=solver, evaluations=5), toys.generator())  # type: ignore[arg-type]
    assert np.array_equal(rows[:, 0, :2], denoiser.normalizer.states(STATES))


def test_solving_for_coefficients_is_solving_for_rows(denoiser: Denoiser) -> None:
    """The solver on windows, from the same noise with anything added that the Gaussian has no direction for, comes to the same rows."""
    config, gaussian = SamplerConfig(evaluations=5), denoiser.gaussian
    state = torch.from_numpy(denoiser.normalizer.states(STATES))
    task = torch.from_numpy(denoiser.normalizer.tasks(TASKS))
    mean = gaussian.mean(torch.cat([state, task], dim=-1))
    anything = torch.randn(mean.shape, generator=toys.generator(1))
    beside = anything - gaussian.lift(gaussian.project(anything))
    noise = gaussian.lift(torch.randn(len(state), gaussian.rank, generator=toys.generator())) + mean / config.sigma_max + beside
    with torch.no_grad():
        rows = sample(lambda x, sigma: denoiser.denoise(x, torch.full((len(x),), sigma), state, task), noise, config, toys.generator())
    assert np.allclose(denoiser.sample(STATES, TASKS, config, toys.generator()), rows.numpy(), atol=2e-4)


def test_sampling_a_silent_network_gives_the_conditional_gaussian(denoiser: Denoiser) -> None:
    """The whole chain, solver and preconditioning: samples have the Gaussian's mean and its variance along each direction."""
    count = 2_000
    silent = with_backbone(denoiser, Fixed(0.0))
    states, tasks = np.tile(np.float32([0.2, 0.1]), (count, 1)), np.tile(np.float32([0.5, 0.5]), (count, 1))
    rows = torch.from_numpy(silent.sample(states, tasks, SamplerConfig(evaluations=30), toys.generator()))
    condition = torch.from_numpy(np.concatenate([silent.normalizer.states(states), silent.normalizer.tasks(tasks)], 1))
    with torch.no_grad():
        coefficients = silent.gaussian.project(rows - silent.gaussian.mean(condition))
    deviation = silent.gaussian.variance.sqrt()
    assert torch.allclose(coefficients.mean(0) / deviation, torch.zeros(len(deviation)), atol=0.1)
    assert torch.allclose(coefficients.std(0) / deviation, torch.ones(len(deviation)), atol=0.12)


def test_sampling_is_the_generators(denoiser: Denoiser) -> None:
    states, tasks = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    first, again, other = (denoiser.sample(states, tasks, SamplerConfig(), toys.generator(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_loss_is_over_valid_rows_only(denoiser: Denoiser, offline: OfflineData, normalizer: Normalizer) -> None:
    """What stands in rows that tell nothing must not matter to a loss that leaves them out."""
    batch = Windows(offline, 8, normalizer).sample(BATCH, toys.generator())
    invalid = batch.valid.clone()
    invalid[:, 5:] = False
    sigma = levels(1e-4)  # at no noise the estimate is local: row 7 does not tell on the others
    noise = torch.zeros_like(batch.rows)
    spoiled = batch.rows.clone()
    silent = with_backbone(denoiser, Fixed(0.0))
    squared = (silent.denoise(batch.rows, sigma, batch.rows[:, 0, :2], batch.task) - batch.rows).square().mean(-1)
    expected = (1 + sigma**-2) * squared[:, :5].mean(-1)
    answer = silent.loss_at(batch._replace(rows=spoiled, valid=invalid), sigma, noise)
    assert torch.allclose(answer, expected, rtol=1e-4)


def test_loss_weight_is_eq_8_with_unit_data_deviation(denoiser: Denoiser, offline: OfflineData, normalizer: Normalizer) -> None:
    batch = Windows(offline, 8, normalizer).sample(BATCH, toys.generator())
    batch = batch._replace(valid=torch.ones_like(batch.valid))
    noise = torch.randn(batch.rows.shape, generator=toys.generator(2))
    for sigma in (0.1, 1.0, 10.0):
        estimate = denoiser.denoise(batch.rows + sigma * noise, levels(sigma), batch.rows[:, 0, :2], batch.task)
        weight = (sigma**2 + 1) / sigma**2
        expected = weight * (estimate - batch.rows).square().mean((1, 2))
        assert torch.allclose(denoiser.loss_at(batch, levels(sigma), noise), expected, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["mlp", "dit", "unet"])
def test_every_backbone_begins_as_the_gaussian_and_learns(backbone: str, offline: OfflineData, normalizer: Normalizer) -> None:
    """Backbones are interchangeable: the same call, and a loss that training brings down. DiT begins by saying nothing at all."""
    windows = Windows(offline, 8, normalizer)
    network = NetworkConfig(backbone=backbone, width=16, depth=2, heads=2, patch=4)  # type: ignore[arg-type]
    losses: list[float] = []
    model = train_denoiser(
        windows,
        network,
        PreconditionerConfig(width=8, gradient_steps=5, windows=300),
        NoiseConfig(),
        TrainConfig(gradient_steps=60, batch_size=64, learning_rate=3e-3),
        toys.generator(),
        lambda progress: losses.append(float(progress.logs["loss"])),
    )
    assert len(losses) == 65
    batch, noise_random = windows.sample(128, toys.generator(4)), toys.generator(5)
    trained = model.loss(batch, noise_random)[0]
    fresh = Denoiser(normalizer, model.gaussian, 8, network, NoiseConfig())
    begun = fresh.loss(batch, toys.generator(5))[0]
    assert trained < begun


def test_training_is_deterministic(offline: OfflineData, normalizer: Normalizer) -> None:
    def weights() -> dict[str, Tensor]:
        return train_denoiser(
            Windows(offline, 8, normalizer),
            NetworkConfig(backbone="mlp", width=8, depth=1),
            PreconditionerConfig(width=8, gradient_steps=3, windows=200),
            NoiseConfig(),
            TrainConfig(gradient_steps=3, seed=4),
            toys.generator(4),
            lambda progress: None,
        ).state_dict()

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = weights(), weights()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(before, torch.get_rng_state())  # the global generator is nobody's business


def test_shapes_that_do_not_divide_are_refused(offline: OfflineData, normalizer: Normalizer, trained_denoisers: list[Denoiser]) -> None:
    gaussian = trained_denoisers[0].gaussian
    for network, words in (
        (NetworkConfig(backbone="dit", width=16, patch=3), "patch 3"),
        (NetworkConfig(backbone="unet", width=8, depth=5), "16"),
    ):
        with pytest.raises(UserError, match=words):
            Denoiser(normalizer, gaussian, 8, network, NoiseConfig())


def untrained(denoiser: Denoiser, backbone: str) -> Denoiser:
    """The same with another network that has not learned; nothing of it is zero, as some of a fresh one is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NetworkConfig(backbone, width=32, depth=2, heads=2, patch=2)
        fresh = Denoiser(denoiser.normalizer, denoiser.gaussian, denoiser.horizon, network, denoiser.noise_config)
        for p in fresh.backbone.parameters():
            p.data.add_(0.05 * torch.randn_like(p))
    return fresh


@pytest.mark.parametrize("backbone", ["mlp", "dit", "unet"])
def test_rounded_weights_answer_nearly_the_same_and_pass_their_gradients_on(backbone: str, denoiser: Denoiser) -> None:
    """What a GPU computes in, here on a CPU. A condition's embedding is not rounded."""
    fresh = untrained(denoiser, backbone)
    random = toys.generator(3)
    z, level, condition = torch.randn(BATCH, denoiser.gaussian.rank, generator=random), torch.linspace(-2, 2, BATCH), torch.randn(BATCH, 4, generator=random)
    asked: list[torch.dtype] = []
    embedding = next(m for m in fresh.backbone.modules() if isinstance(m, ConditionEmbedding))
    embedding.register_forward_hook(lambda module, inputs, output: asked.append(output.dtype))
    gradients = []
    for answer in (fresh.backbone, in_bfloat16(fresh.backbone)):
        value = answer(z, level, condition).float()
        gradients.append((value, torch.autograd.grad(value.square().sum(), list(fresh.backbone.parameters()), allow_unused=True)))
    (value, exact), (rounded, near) = gradients
    assert asked == [torch.float32, torch.float32]
    assert 0 < (rounded - value).norm() / value.norm() < 0.03
    for a, b in zip(exact, near, strict=True):
        assert (a is None) == (b is None)
        assert a is None or (b.dtype == torch.float32 and (a - b).norm() < 0.1 * a.norm() + 1e-6)


@pytest.mark.parametrize("backbone", ["mlp", "dit", "unet"])
def test_a_network_at_several_levels_is_what_it_is_at_each(backbone: str, denoiser: Denoiser) -> None:
    fresh = untrained(denoiser, backbone)
    random, levels = toys.generator(3), torch.tensor([1.0, 0.2, -1.0])
    z, condition = torch.randn(BATCH, denoiser.gaussian.rank, generator=random), torch.randn(BATCH, 4, generator=random)
    with torch.no_grad():
        at_once = [answer(z) for answer in at_levels(fresh.backbone, levels, condition)]
        one_by_one = [fresh.backbone(z, level.expand(BATCH), condition) for level in levels]
    assert not torch.allclose(one_by_one[0], one_by_one[1], atol=1e-2)
    for answer, expected in zip(at_once, one_by_one, strict=True):
        assert torch.allclose(answer, expected, atol=1e-5)


def test_attention_is_the_same_as_pytorchs() -> None:
    """Written out on a CPU, by PyTorch's own kernel on a GPU."""
    query, key, value = torch.randn(3, 2, 4, 8, 16, generator=toys.generator()).unbind(0)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    assert torch.allclose(attention(query, key, value), expected, atol=1e-6)
