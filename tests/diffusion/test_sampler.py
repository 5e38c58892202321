"""The solvers on denoisers known in closed form: no training, so an error here is an error of the solver."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import toys
from atradiff.diffusion.sampler import SamplerConfig, asked_levels, noise_schedule, sample

ROWS, CHANNELS = 3, 2
MEAN = torch.tensor([[2.0, -1.0], [0.5, 0.0], [-3.0, 4.0]])
DEVIATION = torch.tensor([[1.0, 0.1], [0.5, 2.0], [0.02, 3.0]])


def gaussian_denoiser(x: Tensor, sigma: float) -> Tensor:
    """The posterior mean of x0 ~ N(MEAN, DEVIATION^2) under noise sigma: an anisotropic Gaussian."""
    return MEAN + DEVIATION**2 / (DEVIATION**2 + sigma**2) * (x - MEAN)


def exact_solution(noise: Tensor, sigma_max: float) -> Tensor:
    """The ODE's solution from `sigma_max` down to 0: every direction shrinks by s / sqrt(s^2 + sigma_max^2)."""
    return MEAN + (noise * sigma_max - MEAN) * DEVIATION / (DEVIATION**2 + sigma_max**2).sqrt()


def unit_noise(count: int) -> Tensor:
    return torch.randn(count, ROWS, CHANNELS, generator=toys.generator())


def error(config: SamplerConfig) -> float:
    noise = unit_noise(64)
    solved = sample(gaussian_denoiser, noise, config, toys.generator())
    return float(((solved - exact_solution(noise, config.sigma_max)) / DEVIATION).abs().max())


def test_schedule_is_eq_5_of_karras_and_ends_at_zero() -> None:
    config = SamplerConfig(solver="euler", evaluations=5, sigma_min=0.01, sigma_max=10.0, schedule_exponent=7.0)
    sigmas = noise_schedule(config)
    expected = [(10 ** (1 / 7) + i / 4 * (0.01 ** (1 / 7) - 10 ** (1 / 7))) ** 7 for i in range(5)]
    assert sigmas == pytest.approx([*expected, 0.0])
    assert sigmas == sorted(sigmas, reverse=True)


@pytest.mark.parametrize("solver", ["dpm", "heun", "euler"])
@pytest.mark.parametrize("evaluations", [1, 2, 7, 10])
@pytest.mark.parametrize("churn", [0.0, 3.0])
def test_evaluations_are_what_was_paid_for(solver: str, evaluations: int, churn: float) -> None:
    calls: list[float] = []

    def counting(x: Tensor, sigma: float) -> Tensor:
        calls.append(sigma)
        return gaussian_denoiser(x, sigma)

    config = SamplerConfig(solver=solver, evaluations=evaluations, churn=churn)  # type: ignore[arg-type]
    sample(counting, unit_noise(2), config, toys.generator())
    assert set(calls) == set(asked_levels(config))
    assert evaluations - (solver == "heun") <= len(calls) <= evaluations
    assert min(calls) > 0


@pytest.mark.parametrize("solver", ["dpm", "heun", "euler"])
def test_a_point_mass_is_found_from_any_noise(solver: str) -> None:
    solved = sample(lambda x, sigma: MEAN.expand_as(x), unit_noise(8), SamplerConfig(solver=solver, evaluations=9), toys.generator())  # type: ignore[arg-type]
    assert torch.allclose(solved, MEAN.expand_as(solved), atol=1e-4)


@pytest.mark.parametrize("solver", ["dpm", "heun", "euler"])
def test_solvers_converge_to_the_exact_solution(solver: str) -> None:
    config = SamplerConfig(solver=solver, evaluations=400, sigma_min=0.0005, sigma_max=30.0)  # type: ignore[arg-type]
    assert error(config) < (0.05 if solver == "euler" else 0.004)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("dpm", 2)])
def test_order_of_convergence(solver: str, order: int) -> None:
    """Halving the steps' size divides the error by 2 to the order, on a stretch without the last jump into zero."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return x / (1 + sigma**2)

    def solve(evaluations: int) -> float:
        config = SamplerConfig(solver=solver, evaluations=evaluations, sigma_min=1e-4, sigma_max=4.0, schedule_exponent=3.0)  # type: ignore[arg-type]
        noise = torch.ones(1, 1, 1, dtype=torch.float64)
        return abs(float(sample(denoise, noise, config, toys.generator())) - 4 / math.sqrt(17))

    rate = math.log2(solve(20) / solve(40))
    assert rate > order - 0.35


def test_higher_orders_beat_euler_at_the_same_cost() -> None:
    euler = SamplerConfig(solver="euler", evaluations=120, sigma_min=0.002)
    assert error(replace(euler, solver="heun")) < error(euler) / 2
    assert error(replace(euler, solver="dpm")) < error(euler) / 2


@pytest.mark.parametrize("solver", ["dpm", "heun", "euler"])
@pytest.mark.parametrize("churn", [0.0, 20.0])
def test_samples_have_the_mean_and_the_variance_of_the_data(solver: str, churn: float) -> None:
    config = SamplerConfig(solver=solver, evaluations=100, sigma_min=0.002, sigma_max=80.0, churn=churn)  # type: ignore[arg-type]
    solved = sample(gaussian_denoiser, unit_noise(4_000), config, toys.generator(1))
    assert torch.allclose((solved.mean(0) - MEAN) / DEVIATION, torch.zeros(ROWS, CHANNELS), atol=0.08)
    assert torch.allclose(solved.std(0) / DEVIATION, torch.ones(ROWS, CHANNELS), atol=0.1)


def test_churn_zero_is_deterministic_and_churn_is_the_generators() -> None:
    noise, still, churned = unit_noise(4), SamplerConfig(), SamplerConfig(churn=5.0)
    assert torch.equal(
        sample(gaussian_denoiser, noise, still, toys.generator(1)), sample(gaussian_denoiser, noise, still, toys.generator(2))
    )
    first = sample(gaussian_denoiser, noise, churned, toys.generator(1))
    assert torch.equal(first, sample(gaussian_denoiser, noise, churned, toys.generator(1)))
    assert not torch.equal(first, sample(gaussian_denoiser, noise, churned, toys.generator(2)))
