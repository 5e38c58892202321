"""Networks of the agents: an ensemble of critics as batched matrix products, and a tanh-Gaussian actor."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LOG_STD_RANGE = (-10.0, 2.0)


class EnsembleLinear(nn.Module):
    """E linear layers at once: `[E, B, in]` to `[E, B, out]`."""

    def __init__(self, ensemble: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(ensemble, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(ensemble, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class PlainLayerNorm(nn.Module):
    """Layer norm over the last axis without a learned scale and shift: the linear layers around it have them to spare, and it is faster."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:])


class CriticEnsemble(nn.Module):
    """Q(s, a) of E critics: observation `[B, D]` and action `[B, A]` to `[E, B]`."""

    def __init__(self, ensemble: int, observation_dim: int, action_dim: int, width: int, depth: int, layer_norm: bool) -> None:
        super().__init__()
        self.ensemble = ensemble
        layers: list[nn.Module] = []
        inputs = observation_dim + action_dim
        for _ in range(depth):
            layers.append(EnsembleLinear(ensemble, inputs, width))
            if layer_norm:
                layers.append(PlainLayerNorm())
            layers.append(nn.ReLU())
            inputs = width
        layers.append(EnsembleLinear(ensemble, inputs, 1))
        self.net = nn.Sequential(*layers)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([observation, action], dim=-1)
        return self.net(x.expand(self.ensemble, *x.shape)).squeeze(-1)


class TanhGaussianActor(nn.Module):
    """A Gaussian squashed by tanh and scaled to the action range (Haarnoja et al. 2018, appendix C)."""

    def __init__(self, observation_dim: int, action_low: Tensor, action_high: Tensor, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = observation_dim
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        self.net = nn.Sequential(*layers, nn.Linear(inputs, 2 * len(action_low)))
        self.register_buffer("centre", (action_high + action_low) / 2)
        self.register_buffer("half_range", (action_high - action_low) / 2)
        self.centre: Tensor
        self.half_range: Tensor

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh, each `[B, A]`."""
        mean, raw = self.net(observation).chunk(2, dim=-1)
        return mean, raw.clamp(*LOG_STD_RANGE)

    def mode(self, observation: Tensor) -> Tensor:
        """The deterministic action `[B, A]`."""
        mean, _ = self(observation)
        return self.centre + self.half_range * torch.tanh(mean)

    def sample(self, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Action `[B, A]` and its log-density `[B]` (in units of the squashed action), from unit `noise [B, A]`."""
        mean, log_std = self(observation)
        before = mean + log_std.exp() * noise
        log_density = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        log_density = log_density - 2 * (math.log(2) - before - functional.softplus(-2 * before))
        return self.centre + self.half_range * torch.tanh(before), log_density.sum(-1)
