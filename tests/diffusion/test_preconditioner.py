"""The conditional Gaussian recovers a linear-Gaussian world exactly, and a mean that is not linear approximately."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import toys
from atradiff.data.windows import WindowBatch
from atradiff.diffusion.preconditioner import ConditionalGaussian, PreconditionerConfig, fit_gaussian, pin
from atradiff.diffusion.training import TrainConfig
from atradiff.trajectory import Spec

HORIZON, CHANNELS, COUNT = 3, 5, 4_000
WORLD_SPEC = Spec(2, 1, 1, (-1.0,), (1.0,))
CONFIG = PreconditionerConfig(width=32, gradient_steps=200, windows=COUNT, minimum_variance=1e-4)


class World:
    """Windows whose rows are a known function of (state, task), plus noise of known covariance outside of the first state; the task may be
    the sum of the state's entries, but for float32's rounding."""

    def __init__(self, bend: float = 0.0, dependent: bool = False) -> None:
        random = toys.generator(3)
        size = HORIZON * CHANNELS
        self.condition = torch.randn(COUNT, 3, generator=random)
        if dependent:
            self.condition[:, 2] = self.condition[:, 0] + self.condition[:, 1]
        self.matrix = torch.randn(3, size, generator=random) / 2
        self.matrix[:, :2] = torch.eye(3)[:, :2]  # the first row's state is the condition's
        self.offset = torch.randn(size, generator=random)
        self.offset[:2] = 0
        self.noise_map = torch.zeros(2, size)  # two directions of noise, so that the rank is 2
        self.noise_map[0, 4], self.noise_map[1, 9] = 0.3, 1.5
        self.bend = torch.zeros(size)
        self.bend[7] = bend
        noise = torch.randn(COUNT, 2, generator=random) @ self.noise_map
        self.rows = (self.mean(self.condition) + noise).view(COUNT, HORIZON, CHANNELS)
        self.device = torch.device("cpu")
        self.normalizer = type("Shapes", (), {"spec": WORLD_SPEC})()

    def mean(self, condition: Tensor) -> Tensor:
        return condition @ self.matrix + self.offset + self.bend * condition[:, :1].square()

    def __len__(self) -> int:
        return COUNT

    def at(self, index: Tensor) -> WindowBatch:
        return WindowBatch(self.rows[index], self.condition[index, 2:], torch.ones(len(index), HORIZON, dtype=torch.bool))


def fitted(world: World, config: PreconditionerConfig = CONFIG) -> ConditionalGaussian:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return fit_gaussian(world, config, TrainConfig(batch_size=256), toys.generator(), lambda progress: None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def linear() -> tuple[World, ConditionalGaussian]:
    world = World()
    return world, fitted(world)


def test_covariance_of_a_linear_world_is_recovered(linear: tuple[World, ConditionalGaussian]) -> None:
    world, gaussian = linear
    covariance = gaussian.basis @ torch.diag(gaussian.variance) @ gaussian.basis.T
    assert torch.allclose(covariance, world.noise_map.T @ world.noise_map, atol=0.12)
    assert gaussian.rank == 2
    assert torch.allclose(gaussian.variance, torch.tensor([2.25, 0.09]), rtol=0.08)


def test_basis_is_orthonormal_and_leaves_the_first_state_alone(linear: tuple[World, ConditionalGaussian]) -> None:
    _, gaussian = linear
    assert torch.allclose(gaussian.basis.T @ gaussian.basis, torch.eye(gaussian.rank), atol=1e-5)
    assert gaussian.basis.view(HORIZON, CHANNELS, -1)[0, :2].abs().max() < 1e-4
    coefficients = torch.randn(7, gaussian.rank, generator=toys.generator())
    assert torch.allclose(gaussian.project(gaussian.lift(coefficients)), coefficients, atol=1e-5)


def test_mean_of_a_linear_world_is_recovered(linear: tuple[World, ConditionalGaussian]) -> None:
    world, gaussian = linear
    condition = torch.randn(500, 3, generator=toys.generator(9))
    with torch.no_grad():
        mean = gaussian.mean(condition)
    assert torch.allclose(mean[:, 0, :2], condition[:, :2], atol=1e-3)
    error = (mean.flatten(1) - world.mean(condition)) / (gaussian.basis.abs() @ gaussian.variance.sqrt() + 0.05)
    assert error.square().mean().sqrt() < 0.15


def test_an_entry_that_is_the_sum_of_others_gets_no_slope_of_its_own() -> None:
    """As the way from the palm to the ball, beside both places. In imagined states the sum is off by another rounding than in the data's."""
    world = World(dependent=True)
    gaussian = fitted(world)
    moved = world.condition + 1e-5 * torch.randn(world.condition.shape, generator=toys.generator())
    with torch.no_grad():
        assert torch.allclose(gaussian.mean(moved), gaussian.mean(world.condition), atol=1e-3)
        assert torch.allclose(gaussian.mean(world.condition)[:, 0, :2], world.condition[:, :2], atol=1e-3)


def test_a_bent_mean_is_learned_beyond_the_linear_part() -> None:
    """x0^2 / sqrt(2) has unit variance and is not correlated with x0: least squares sees none of it, the network most of it."""
    world = World(bend=2**-0.5)
    gaussian = fitted(world)
    with torch.no_grad():
        residual = world.rows.flatten(1)[:, 7] - gaussian.mean(world.condition).flatten(1)[:, 7]
    assert residual.var() < 0.2


def test_variance_is_what_the_whole_mean_leaves(linear: tuple[World, ConditionalGaussian]) -> None:
    world, gaussian = linear
    with torch.no_grad():
        coefficients = gaussian.project(world.rows - gaussian.mean(world.condition))
    second_moment = coefficients.T @ coefficients / COUNT
    assert torch.allclose(second_moment, torch.diag(gaussian.variance), atol=1e-3)


def test_pin_sets_the_first_state_only() -> None:
    x, state = torch.randn(4, HORIZON, CHANNELS, generator=toys.generator()), torch.full((4, 2), 9.0)
    pinned = pin(x, state)
    assert torch.equal(pinned[:, 0, :2], state)
    assert torch.equal(pinned[:, 0, 2:], x[:, 0, 2:])
    assert torch.equal(pinned[:, 1:], x[:, 1:])


def test_the_mean_sees_conditions_in_the_frequencies_asked_for() -> None:
    world, short = World(bend=1.0), replace(CONFIG, gradient_steps=1)
    usual, smooth = (fitted(world, replace(short, feature_scale=scale)).coefficients.net[0].frequencies for scale in (1.0, 0.1))
    assert torch.allclose(smooth, 0.1 * usual)


def test_dropout_keeps_a_mean_of_few_windows_from_knowing_them_by_heart() -> None:
    world, few = World(bend=1.0), replace(CONFIG, windows=60, gradient_steps=600)
    truth = world.mean(world.condition).view_as(world.rows)
    means = [fitted(world, replace(few, dropout=dropout)).mean(world.condition) for dropout in (0.0, 0.3, 0.3)]
    errors = [float((mean - truth).square().mean()) for mean in means]
    assert errors[1] < 0.8 * errors[0], errors
    assert torch.equal(means[1], means[2]), "the same seed drops the same units, and none are dropped once it has learned"


def test_actions_are_not_told_by_a_direction_in_which_conditions_hardly_vary() -> None:
    world, few = World(), replace(CONFIG, windows=60, gradient_steps=24)
    noise = torch.randn(COUNT, 2, generator=toys.generator(5))
    world.condition[:, 2] = world.condition[:, 0] + 0.01 * noise[:, 0]
    world.rows = world.mean(world.condition).view_as(world.rows)
    world.rows[:, 1, 2] += noise[:, 1]
    free, ridge = (fitted(world, replace(few, action_ridge=size)).linear.view(4, HORIZON, CHANNELS) for size in (0.0, 0.1))
    assert free[2, 1, 2].abs() > 5 > 1 > ridge[2, 1, 2].abs()
    assert torch.equal(free[:, :, :2], ridge[:, :, :2]), "states keep all that least squares says"


def test_a_mean_that_sees_its_windows_few_times_is_not_kept_from_learning() -> None:
    """40 passes over 256 windows are 40 batches of 256."""
    world, config = World(bend=1.0), replace(CONFIG, windows=256, dropout=0.3, action_ridge=0.1)
    for gradient_steps, alike in ((40, True), (41, False)):
        kept, free = (fitted(world, replace(config, gradient_steps=gradient_steps, **changed)) for changed in ({}, {"dropout": 0.0, "action_ridge": 0.0}))
        assert torch.equal(kept.linear, free.linear) == alike
        assert torch.equal(kept.coefficients.head.weight, free.coefficients.head.weight) == alike
