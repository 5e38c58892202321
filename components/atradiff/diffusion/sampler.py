"""Solvers of the probability-flow ODE of EDM, in x0-prediction form. They know a denoiser only as a function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from typing_extensions import Doc

Denoise = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class SamplerConfig:
    """How noise becomes a trajectory."""

    solver: Annotated[Literal["dpm", "heun", "euler"], Doc("ODE solver: dpm is DPM-Solver++(2M), heun costs two evaluations a step.")] = "dpm"
    evaluations: Annotated[int, Ge(1), Doc("Evaluations of the denoiser for one window.")] = 5
    sigma_min: Annotated[float, Gt(0), Doc("Last noise level above zero, in normalised units.")] = 0.004
    sigma_max: Annotated[float, Gt(0), Doc("First noise level, in normalised units.")] = 40.0
    schedule_exponent: Annotated[float, Gt(0), Doc("EDM's rho: larger puts more steps at low noise.")] = 7.0
    churn: Annotated[float, Ge(0), Doc("EDM's S_churn: fresh noise added along the way; 0 is deterministic.")] = 0.0


def noise_schedule(config: SamplerConfig) -> list[float]:
    """Decreasing noise levels with a final 0 (Karras et al. 2022, eq. 5); Heun takes half as many, at two evaluations each."""
    steps = (config.evaluations + 1) // 2 if config.solver == "heun" else config.evaluations
    low, high = config.sigma_min ** (1 / config.schedule_exponent), config.sigma_max ** (1 / config.schedule_exponent)
    ramp = [i / max(1, steps - 1) for i in range(steps)]
    return [(high + t * (low - high)) ** config.schedule_exponent for t in ramp] + [0.0]


def asked_levels(config: SamplerConfig) -> list[float]:
    """The noise levels at which `sample` asks the denoiser."""
    sigmas = noise_schedule(config)
    gamma = _churn_share(config, len(sigmas) - 1)
    return [*(sigma * (1 + gamma) for sigma in sigmas[:-1]), *(sigmas[1:-1] if config.solver == "heun" else [])]


def sample(denoise: Denoise, noise: Tensor, config: SamplerConfig, generator: torch.Generator | None) -> Tensor:
    """Solve from unit `noise [B, ...]` down to data. `generator` serves churn only, and may be None without it."""
    sigmas = noise_schedule(config)
    gamma = _churn_share(config, len(sigmas) - 1)
    x = noise * sigmas[0]
    previous: tuple[Tensor, float] | None = None
    for sigma, sigma_next in pairwise(sigmas):
        if gamma > 0 and generator is not None:
            x, sigma = _churn(x, sigma, gamma, generator)
            previous = None  # fresh noise breaks with the history: dpm is of first order then
        estimate = denoise(x, sigma)
        if config.solver == "dpm":
            x, previous = _dpm_step(x, sigma, sigma_next, estimate, previous), (estimate, sigma)
        else:
            x_next = _euler_step(x, sigma, sigma_next, estimate)
            if config.solver == "heun" and sigma_next > 0:
                x_next = _heun_correction(x, sigma, sigma_next, estimate, denoise(x_next, sigma_next))
            x = x_next
    return x


def _churn_share(config: SamplerConfig, steps: int) -> float:
    """The share by which each of the steps raises its noise level (gamma; Karras et al. 2022, algorithm 2)."""
    return min(config.churn / steps, math.sqrt(2) - 1)


def _churn(x: Tensor, sigma: float, gamma: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Raise the noise level by fresh noise (Karras et al. 2022, algorithm 2)."""
    raised = sigma * (1 + gamma)
    fresh = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
    return x + fresh * math.sqrt(raised**2 - sigma**2), raised


def _euler_step(x: Tensor, sigma: float, sigma_next: float, estimate: Tensor) -> Tensor:
    """dx/dsigma = (x - D(x)) / sigma (Karras et al. 2022, eq. 3)."""
    return x + (x - estimate) * ((sigma_next - sigma) / sigma)


def _heun_correction(x: Tensor, sigma: float, sigma_next: float, estimate: Tensor, estimate_next: Tensor) -> Tensor:
    """The trapezoidal rule; the slope at the far end is taken at the Euler point (Karras et al. 2022, algorithm 1)."""
    slope = (x - estimate) / sigma
    euler = x + slope * (sigma_next - sigma)
    slope_next = (euler - estimate_next) / sigma_next
    return x + (slope + slope_next) * ((sigma_next - sigma) / 2)


def _dpm_step(x: Tensor, sigma: float, sigma_next: float, estimate: Tensor, previous: tuple[Tensor, float] | None) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2) in t = -log(sigma); first order at the start and into zero."""
    if sigma_next == 0:
        return estimate
    step = math.log(sigma / sigma_next)
    if previous is not None:
        ratio = math.log(previous[1] / sigma) / step
        estimate = estimate + (estimate - previous[0]) / (2 * ratio)
    return (sigma_next / sigma) * x - math.expm1(-step) * estimate
