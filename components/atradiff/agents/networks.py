"""Networks of the agents: an ensemble of critics as batched matrix products, and a tanh-Gaussian actor."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from atradiff.products import baddbmm, bmm

LOG_STD_RANGE = (-10.0, 2.0)
LAYER_NORM_EPSILON = 1e-5


class EnsembleMLP(nn.Module):
    """E multilayer perceptrons at once: input `[B, in]`, shared by all, to `[E, B, out]`.

    A hidden layer is linear, then dropout and layer norm if asked, in this order (Hiraoka et al. 2022, figure 1), then ReLU. The layer
    norm has no learned scale and shift: the linear layers around it have them to spare.
    """

    def __init__(self, ensemble: int, sizes: list[int], layer_norm: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer_norm = layer_norm
        self.dropout = dropout
        bounds = [1 / math.sqrt(inputs) for inputs in sizes[:-1]]
        shapes = list(zip(sizes[:-1], sizes[1:], bounds, strict=True))
        self.weights = nn.ParameterList(torch.empty(ensemble, i, o).uniform_(-b, b) for i, o, b in shapes)
        self.biases = nn.ParameterList(torch.empty(ensemble, 1, o).uniform_(-b, b) for _, o, b in shapes)

    def forward(self, x: Tensor, members: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Outputs of all networks, or of the `members` whose numbers are given; with a generator hidden units are dropped out."""
        parameters = [*self.weights, *self.biases]
        if members is not None:
            parameters = [p[members] for p in parameters]
        masks = self.draw_masks(len(parameters[0]), len(x), generator) if generator is not None else []
        return _EnsembleMLP.apply(x, self.layer_norm, masks, *parameters)  # pyright: ignore

    def draw_masks(self, ensemble: int, size: int, generator: torch.Generator) -> list[Tensor]:
        """For each hidden layer `[E, B, width]`: 0 where a unit is dropped, else 1 / (1 - dropout), which keeps its mean; none without dropout."""
        if self.dropout == 0:
            return []
        widths = [bias.shape[-1] for bias in self.biases[:-1]]
        sizes = [ensemble * size * width for width in widths]
        masks = self.biases[0].new_full((sum(sizes),), 1 / (1 - self.dropout))
        if generator.device.type == "cuda":  # where to draw is cheap, and to wait is not
            masks *= torch.rand(len(masks), generator=generator, device=generator.device) >= self.dropout
        else:
            masks[dropped_units(len(masks), self.dropout, generator).to(masks.device)] = 0
        return [mask.view(ensemble, size, width) for mask, width in zip(masks.split(sizes), widths, strict=True)]


def dropped_units(count: int, chance: float, generator: torch.Generator) -> Tensor:
    """The numbers of those units among `count` that are dropped, each with the `chance`, ascending.

    The gaps from one to the next are geometric: so no more is drawn than is dropped, which is far less than a number for each unit.
    """
    last, found = -1.0, list[Tensor]()
    while last < count:
        expected = (count - last) * chance
        gaps = torch.empty(math.ceil(expected + 6 * math.sqrt(expected)), dtype=torch.float64).geometric_(chance, generator=generator)
        found.append(last + gaps.cumsum(0))
        last = float(found[-1][-1])
    numbers = torch.cat(found).long()
    return numbers[numbers < count]


class _EnsembleMLP(torch.autograd.Function):
    """Both passes of `EnsembleMLP` as one node of the graph: these networks are so small that a node for each operation would
    cost as much as the operations. A test holds the gradients against autograd's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer_norm: bool, masks: list[Tensor], *parameters: Tensor) -> Tensor:
        depth = len(parameters) // 2
        weights, biases = parameters[:depth], parameters[depth:]
        hidden = x.expand(len(weights[0]), *x.shape)
        inputs, norms = [hidden], list[Tensor]()
        for k in range(depth - 1):
            hidden = baddbmm(biases[k], hidden, weights[k])
            if masks:
                hidden = hidden.mul_(masks[k])
            if layer_norm:
                linear = hidden
                hidden, mean, scale = torch.native_layer_norm(linear, linear.shape[-1:], None, None, LAYER_NORM_EPSILON)
                norms += [linear, mean, scale]
            hidden = hidden.relu_()
            inputs.append(hidden)
        ctx.depth, ctx.masks = depth, masks
        ctx.save_for_backward(*weights, *inputs, *norms)
        return baddbmm(biases[-1], hidden, weights[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,), depth = gradients, ctx.depth
        saved = ctx.saved_tensors
        weights, inputs, norms = saved[:depth], saved[depth : 2 * depth], saved[2 * depth :]
        of_x: Tensor | None = None
        of_weights: list[Tensor | None] = [None] * depth
        of_biases: list[Tensor | None] = [None] * depth
        for k in reversed(range(depth)):
            if ctx.needs_input_grad[3]:
                of_weights[k] = bmm(inputs[k].mT, gradient)
                of_biases[k] = gradient.sum(1, keepdim=True)
            if k > 0:
                gradient = torch.ops.aten.threshold_backward(bmm(gradient, weights[k].mT), inputs[k], 0)
                if norms:
                    linear, mean, scale = norms[3 * k - 3 : 3 * k]
                    gradient = torch.ops.aten.native_layer_norm_backward(
                        gradient, linear, linear.shape[-1:], mean, scale, None, None, [True, False, False]
                    )[0]
                if ctx.masks:
                    gradient = gradient.mul_(ctx.masks[k - 1])
            elif ctx.needs_input_grad[0]:
                of_x = bmm(gradient, weights[0].mT).sum(0)
        return of_x, None, None, *of_weights, *of_biases


class CriticEnsemble(nn.Module):
    """Q(s, a) of E critics: observation `[B, D]` and action `[B, A]` to `[E, B]`."""

    def __init__(
        self, ensemble: int, observation_dim: int, action_dim: int, width: int, depth: int, layer_norm: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.net = EnsembleMLP(ensemble, [observation_dim + action_dim, *[width] * depth, 1], layer_norm, dropout)

    def forward(
        self, observation: Tensor, action: Tensor, members: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Of all critics, or of the `members` whose numbers are given; with a generator hidden units are dropped out."""
        return self.net(torch.cat([observation, action], dim=-1), members, generator).squeeze(-1)


class SquashedActor(nn.Module):
    """A network of `outputs` numbers for each action dimension, and the way from before the tanh to the action range."""

    def __init__(self, observation_dim: int, action_low: Tensor, action_high: Tensor, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.net = EnsembleMLP(1, [observation_dim, *[width] * depth, outputs * len(action_low)], layer_norm=False)
        self.register_buffer("centre", (action_high + action_low) / 2)
        self.register_buffer("half_range", (action_high - action_low) / 2)
        self.centre: Tensor
        self.half_range: Tensor

    def squash(self, before: Tensor) -> Tensor:
        """From before the tanh to the action range."""
        return torch.addcmul(self.centre, self.half_range, torch.tanh(before))


class TanhGaussianActor(SquashedActor):
    """A Gaussian squashed by tanh and scaled to the action range (Haarnoja et al. 2018, appendix C)."""

    def __init__(self, observation_dim: int, action_low: Tensor, action_high: Tensor, width: int, depth: int) -> None:
        super().__init__(observation_dim, action_low, action_high, width, depth, outputs=2)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh, each `[B, A]`."""
        mean, raw = self.net(observation).squeeze(0).chunk(2, dim=-1)
        return mean, raw.clamp(*LOG_STD_RANGE)

    def mode(self, observation: Tensor) -> Tensor:
        """The deterministic action `[B, A]`."""
        return self.squash(self(observation)[0])

    def act(self, observation: Tensor, noise: Tensor) -> Tensor:
        """A random action `[B, A]` from unit `noise [B, A]`."""
        mean, log_std = self(observation)
        return self.draw(mean, log_std, noise)

    def draw(self, mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
        """The same from the Gaussian's mean and log standard deviation."""
        return self.squash(torch.addcmul(mean, log_std.exp(), noise))

    def sample(self, mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Action `[B, A]` and its log-density `[B]` (in units of the squashed action), from unit `noise [B, A]`."""
        before = torch.addcmul(mean, log_std.exp(), noise)
        log_density = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        log_density = log_density - 2 * (math.log(2) - before - functional.softplus(-2 * before))
        return self.squash(before), log_density.sum(-1)


class TanhActor(SquashedActor):
    """A deterministic action `[B, A]` for observations `[B, D]`, squashed by tanh and scaled to the action range."""

    def __init__(self, observation_dim: int, action_low: Tensor, action_high: Tensor, width: int, depth: int) -> None:
        super().__init__(observation_dim, action_low, action_high, width, depth, outputs=1)

    def forward(self, observation: Tensor) -> Tensor:
        return self.squash(self.net(observation).squeeze(0))
