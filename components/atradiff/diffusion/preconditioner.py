"""What is linear or Gaussian about windows, known before the network is asked.

EDM preconditions with one number, the data's standard deviation. Windows of a trajectory are far from isotropic: they are smooth,
and x' = x + v dt ties their entries together. So the scalar becomes a Gaussian (ours): a mean that depends on the first state and
the task, and the covariance around it in its own basis. The network then learns only what is not Gaussian, and cannot break a
linear relation that the data never breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import Doc

from atradiff.data.windows import Windows
from atradiff.diffusion.features import SCALE, FourierFeatures
from atradiff.diffusion.training import Progress, TrainConfig, fit

MINIMUM_CONDITION_VARIANCE = 1e-8
"""Directions of (condition, 1) with less variance, in normalised units, are rounding: where one entry of a state is the sum of others, say. A
slope along them is immense and fits nothing, and imagined states, which are rounded otherwise, would leave the data's range by it."""

BY_HEART = 40
"""Passes over its windows from which on a conditional mean is taken to know them by heart, unless it is kept from that."""


@dataclass(frozen=True)
class PreconditionerConfig:
    """The Gaussian around which the denoiser is built."""

    width: Annotated[int, Ge(8), Doc("Units in a hidden layer of the conditional mean.")] = 256
    gradient_steps: Annotated[int, Ge(1), Doc("Gradient steps of the conditional mean.")] = 4_000
    learning_rate: Annotated[float, Gt(0), Doc("Peak learning rate of the conditional mean.")] = 2e-3
    feature_scale: Annotated[float, Gt(0), Doc("Standard deviation of the frequencies in which the mean sees a condition; less is smoother.")] = SCALE
    dropout: Annotated[float, Ge(0), Lt(1), Doc("Chance that a hidden unit of a mean that would learn by heart is dropped while it learns; 0 is off.")] = 0.3
    action_ridge: Annotated[float, Ge(0), Doc("Variance at which a direction of the condition tells such a mean's actions linearly by half; 0: all do.")] = 0.0
    windows: Annotated[int, Ge(2), Doc("Windows on which the Gaussian is fitted.")] = 100_000
    minimum_variance: Annotated[float, Gt(0), Doc("Directions with less variance, in normalised units, are taken as certain.")] = 1e-4


class MeanBatch(NamedTuple):
    """condition `[B, O + K]` and the coefficients `[B, R]` of its window."""

    condition: Tensor
    coefficients: Tensor


class MeanCoefficients(nn.Module):
    """The mean of the coefficients `[B, R]` under a condition `[B, O + K]`, beyond what is linear in it. Where data is little, dropout keeps it from
    knowing each window by heart (Srivastava et al. 2014)."""

    def __init__(self, condition_dim: int, width: int, rank: int, feature_scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        features = FourierFeatures(condition_dim, feature_scale)
        self.net = nn.Sequential(
            features, nn.Linear(features.size, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.head = nn.Linear(width, rank)

    def forward(self, condition: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """With a generator hidden units are dropped."""
        hidden = condition
        for layer in self.net:
            hidden = layer(hidden)
            if generator is not None and self.dropout > 0 and isinstance(layer, nn.SiLU):
                kept = torch.rand(hidden.shape, generator=generator, device=hidden.device) >= self.dropout
                hidden = hidden * kept / (1 - self.dropout)
        return self.head(hidden)

    def loss(self, batch: MeanBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error, with hidden units dropped by the generator."""
        loss = (self(batch.condition, generator) - batch.coefficients).square().sum(-1).mean()
        return loss, {"loss": loss.detach()}


class ConditionalGaussian(nn.Module):
    """N(mean(condition), basis diag(variance) basis^T) over windows; the condition is the first state and the task.

    linear `[O + K + 1, H C]` is the least-squares map from what varies of (condition, 1) to windows; basis `[H C, R]` has orthonormal columns and
    spans what that map leaves open, so that means and samples alike stay in it; variance `[R]` is what the whole mean leaves, along
    each column. The first state is linear in the condition, hence pinned.
    """

    def __init__(
        self, horizon: int, channels: int, condition_dim: int, width: int, rank: int, feature_scale: float = SCALE, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.shape = (horizon, channels)
        self.coefficients = MeanCoefficients(condition_dim, width, rank, feature_scale, dropout)
        self.register_buffer("linear", torch.zeros(condition_dim + 1, horizon * channels))
        self.register_buffer("basis", torch.zeros(horizon * channels, rank))
        self.register_buffer("variance", torch.zeros(rank))
        self.linear: Tensor
        self.basis: Tensor
        self.variance: Tensor

    @property
    def rank(self) -> int:
        return self.basis.shape[1]

    def mean(self, condition: Tensor) -> Tensor:
        """The mean window `[B, H, C]` under `condition [B, O + K]`."""
        linear = torch.addmm(self.linear[-1], condition, self.linear[:-1])
        return linear.view(-1, *self.shape) + self.lift(self.coefficients(condition))

    def project(self, residual: Tensor) -> Tensor:
        """Residual windows `[B, H, C]` to coefficients `[B, R]`."""
        return residual.flatten(1) @ self.basis

    def lift(self, coefficients: Tensor) -> Tensor:
        """Coefficients `[B, R]` to residual windows `[B, H, C]`."""
        return functional.linear(coefficients, self.basis).view(-1, *self.shape)


def fit_gaussian(
    windows: Windows, config: PreconditionerConfig, train: TrainConfig, generator: torch.Generator, report: Callable[[Progress], None]
) -> ConditionalGaussian:
    """Least squares, the basis of what it leaves, a network for the mean within that basis, and the variances that remain.

    Where windows are so few that training passes over them more than `BY_HEART` times, there is dropout, and actions are told by ridge regression: no
    relation ties them that it could break, and a direction in which few episodes vary tells them wrongly.
    """
    spec = windows.normalizer.spec
    batch = windows.at(torch.randperm(len(windows), generator=generator, device=generator.device)[: config.windows].to(windows.device))
    condition = torch.cat([batch.rows[:, 0, : spec.state_dim], batch.task], dim=-1)
    by_heart = config.gradient_steps * train.batch_size > BY_HEART * len(condition)
    dropout, action_ridge = (config.dropout, config.action_ridge) if by_heart else (0.0, 0.0)
    flat = batch.rows.flatten(1)
    lifted = torch.cat([condition, torch.ones_like(condition[:, :1])], dim=-1)
    exact = lifted.double()
    varied, moments = (part.double() for part in _principal_directions(exact, MINIMUM_CONDITION_VARIANCE))
    slopes = torch.linalg.lstsq(exact @ varied, flat.double()).solution
    actions = slopes.view(len(slopes), *batch.rows.shape[1:])[..., spec.state_dim : spec.state_dim + spec.action_dim]
    actions *= (moments / (moments + action_ridge))[:, None, None]  # ridge regression: these directions are uncorrelated
    linear = (varied @ slopes).round(decimals=9).float()  # LAPACK's last bits depend on where in memory the data lies
    residual = flat - lifted @ linear
    basis, _ = _principal_directions(residual, config.minimum_variance)
    coefficients = residual @ basis

    horizon, channels = batch.rows.shape[1:]
    sizes = horizon, channels, condition.shape[1], config.width, basis.shape[1]
    gaussian = ConditionalGaussian(*sizes, config.feature_scale, dropout).to(flat.device)
    mean_train = replace(train, gradient_steps=config.gradient_steps, learning_rate=config.learning_rate)
    samples = _Samples(condition, coefficients, train.batch_size)
    fit(gaussian.coefficients, samples, mean_train, generator, report)
    gaussian.requires_grad_(False)
    with torch.no_grad():
        rotation, variance = _principal_directions(coefficients - gaussian.coefficients(condition), 0.0)
        gaussian.linear = linear.contiguous()
        gaussian.basis = (basis @ rotation).contiguous()
        gaussian.variance = variance
        head = gaussian.coefficients.head
        head.weight.copy_(rotation.T @ head.weight)
        head.bias.copy_(head.bias @ rotation)
    return gaussian


class _Samples:
    """Batches of condition and coefficients, uniform with replacement."""

    def __init__(self, condition: Tensor, coefficients: Tensor, batch_size: int) -> None:
        self._all = MeanBatch(condition, coefficients)
        self._batch_size = batch_size

    def __call__(self, generator: torch.Generator) -> MeanBatch:
        count = len(self._all.condition)
        index = torch.randint(count, (self._batch_size,), generator=generator, device=generator.device).to(self._all.condition.device)
        return MeanBatch(*(values[index] for values in self._all))


def _principal_directions(residual: Tensor, minimum_variance: float) -> tuple[Tensor, Tensor]:
    """Directions `[D, R]` of `residual [N, D]` with a second moment above the minimum, and those moments `[R]`, descending."""
    variance, directions = torch.linalg.eigh((residual.T @ residual / len(residual)).double())
    kept = torch.nonzero(variance >= minimum_variance).squeeze(-1).flip(0)
    return directions[:, kept].float(), variance[kept].clamp_min(1e-12).float()


def pin(x: Tensor, state: Tensor) -> Tensor:
    """`x [B, H, C]` with the first row's state set to `state [B, O]`."""
    first = torch.cat([state, x[:, 0, state.shape[-1] :]], dim=-1)
    return torch.cat([first[:, None], x[:, 1:]], dim=1)
