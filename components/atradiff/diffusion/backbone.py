"""Raw networks F(z; noise, condition) behind one call: an MLP over the Gaussian's coefficients, or a network over rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from typing_extensions import Doc

from atradiff.diffusion.features import FourierFeatures
from atradiff.diffusion.preconditioner import ConditionalGaussian
from atradiff.errors import UserError

RawNetwork = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(coefficients `[B, R]`, noise level `[B]`, condition `[B, O + K]`) to `[B, R]`."""


@dataclass(frozen=True)
class NetworkConfig:
    """Size and kind of the raw network."""

    backbone: Annotated[
        Literal["dit", "unet", "mlp"],
        Doc("mlp: residual MLP over the Gaussian's coefficients; dit: transformer over patches of rows; unet: temporal U-Net."),
    ] = "mlp"
    width: Annotated[int, Ge(8), Doc("Channels of the hidden layers.")] = 384
    depth: Annotated[int, Ge(1), Doc("Blocks (mlp, dit) or resolutions (unet).")] = 3
    heads: Annotated[int, Ge(1), Doc("Attention heads (dit); divides width.")] = 4
    patch: Annotated[int, Ge(1), Doc("Rows in one token (dit); divides every horizon.")] = 8


class ConditionEmbedding(nn.Module):
    """noise level `[B]` and condition `[B, K]` to one vector `[B, width]`."""

    def __init__(self, condition_dim: int, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.exp(torch.linspace(math.log(0.5), math.log(64.0), 16)))
        self.features = FourierFeatures(condition_dim)
        self.net = nn.Sequential(nn.Linear(32 + self.features.size, width), nn.SiLU(), nn.Linear(width, width))
        self.frequencies: Tensor

    def forward(self, noise_level: Tensor, condition: Tensor) -> Tensor:
        angle = noise_level[:, None] * self.frequencies
        return self.net(torch.cat([angle.cos(), angle.sin(), self.features(condition)], dim=-1))


class DiTBlock(nn.Module):
    """Self-attention and MLP, each shifted, scaled and gated by the condition (adaLN-zero: Peebles and Xie 2023, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition)[:, None].chunk(6, dim=-1)
        batch, tokens, width = x.shape
        h = torch.addcmul(shift_a, self.norm(x), 1 + scale_a)
        q, k, v = self.qkv(h).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = torch.addcmul(x, gate_a, self.out(attended))
        return torch.addcmul(x, gate_m, self.mlp(torch.addcmul(shift_m, self.norm(x), 1 + scale_m)))


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Each query's mean of the values, weighted by its likeness to the keys, all `[B, heads, T, D]`.

    On a CPU it is written out: a window has a few dozen patches, and PyTorch's blockwise kernel, made for thousands, takes six times as long.
    """
    if query.is_cuda:
        return functional.scaled_dot_product_attention(query, key, value)
    return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), dim=-1) @ value


class DiT(nn.Module):
    """A 1-D diffusion transformer over patches of rows."""

    def __init__(self, config: NetworkConfig, horizon: int, channels: int, condition_dim: int) -> None:
        super().__init__()
        if horizon % config.patch or config.width % config.heads:
            raise UserError(
                f"denoiser.network: patch {config.patch} must divide the horizon {horizon}, and heads {config.heads} the width {config.width}"
            )
        self.patch = config.patch
        self.embed = nn.Linear(config.patch * channels, config.width)
        self.position = nn.Parameter(torch.randn(horizon // config.patch, config.width) * 0.02)
        self.condition = ConditionEmbedding(condition_dim, config.width)
        self.blocks = nn.ModuleList([DiTBlock(config.width, config.heads) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.width, elementwise_affine=False)
        self.modulation = nn.Linear(config.width, 2 * config.width)
        self.head = nn.Linear(config.width, config.patch * channels)
        for layer in (self.modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, noise_level: Tensor, condition: Tensor) -> Tensor:
        dtype = self.embed.weight.dtype
        c = functional.silu(self.condition(noise_level, condition)).to(dtype)
        h = self.embed(x.to(dtype).reshape(len(x), -1, self.patch * x.shape[-1])) + self.position
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.modulation(c)[:, None].chunk(2, dim=-1)
        return self.head(torch.addcmul(shift, self.norm(h), 1 + scale)).reshape(x.shape)


class UNetBlock(nn.Module):
    """Two temporal convolutions with the condition added between them, as in Diffuser (Janner et al. 2022, appendix C)."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(inputs, outputs, 5, padding=2), nn.GroupNorm(8, outputs), nn.Mish())
        self.second = nn.Sequential(nn.Conv1d(outputs, outputs, 5, padding=2), nn.GroupNorm(8, outputs), nn.Mish())
        self.condition = nn.Linear(width, outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.first(x) + self.condition(condition)[:, :, None]
        return self.second(h) + self.skip(x)


class UNet(nn.Module):
    """A temporal U-Net: channels double and rows halve from one resolution to the next."""

    def __init__(self, config: NetworkConfig, horizon: int, channels: int, condition_dim: int) -> None:
        super().__init__()
        if horizon % 2 ** (config.depth - 1) or config.width % 8:
            raise UserError(
                f"denoiser.network: a unet of depth {config.depth} needs a horizon divisible by {2 ** (config.depth - 1)} (not {horizon}) "
                f"and a width divisible by 8 (not {config.width})"
            )
        widths = [config.width * 2**level for level in range(config.depth)]
        self.condition = ConditionEmbedding(condition_dim, config.width)
        self.entry = nn.Conv1d(channels, widths[0], 5, padding=2)
        self.down = nn.ModuleList([UNetBlock(w, w, config.width) for w in widths])
        self.shrink = nn.ModuleList([nn.Conv1d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)])
        self.grow = nn.ModuleList([nn.ConvTranspose1d(b, a, 4, stride=2, padding=1) for a, b in pairwise(widths)])
        self.up = nn.ModuleList([UNetBlock(2 * w, w, config.width) for w in widths[:-1]])
        self.head = nn.Conv1d(widths[0], channels, 1)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, noise_level: Tensor, condition: Tensor) -> Tensor:
        dtype = self.entry.weight.dtype
        c = functional.silu(self.condition(noise_level, condition)).to(dtype)
        h = self.entry(x.to(dtype).transpose(1, 2))
        skips: list[Tensor] = []
        for block, shrink in zip(self.down, self.shrink, strict=False):
            skips.append(block(h, c))
            h = shrink(skips[-1])
        h = self.down[-1](h, c)
        for grow, block, skip in zip(reversed(self.grow), reversed(self.up), reversed(skips), strict=True):
            h = block(torch.cat([grow(h), skip], dim=1), c)
        return self.head(h).transpose(1, 2)


class ResidualMLP(nn.Module):
    """A residual MLP, as in SynthER (Lu et al. 2023), but over the Gaussian's coefficients `[B, R]` and not over rows (ours)."""

    def __init__(self, config: NetworkConfig, rank: int, condition_dim: int) -> None:
        super().__init__()
        width = config.width
        self.condition = ConditionEmbedding(condition_dim, width)
        self.embed = nn.Linear(rank, width)
        self.first = nn.ModuleList([nn.Linear(width, width) for _ in range(config.depth)])
        self.shift = nn.ModuleList([nn.Linear(width, width) for _ in range(config.depth)])
        self.second = nn.ModuleList([nn.Linear(width, width) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = nn.Linear(width, rank)
        nn.init.zeros_(self.head.weight)

    def forward(self, z: Tensor, noise_level: Tensor, condition: Tensor) -> Tensor:
        return self._shifted(z, *self._shifts(noise_level, condition))

    def at_levels(self, noise_levels: Tensor, condition: Tensor) -> list[Callable[[Tensor], Tensor]]:
        """The network under `condition [B, K]` at each of the noise levels `[S]`. What does not depend on z, nearly half of the
        layers, is computed here for all levels at once: a product for a few windows takes little longer than one for one of them."""
        shifts = self._shifts(noise_levels.repeat_interleave(len(condition)), condition.repeat(len(noise_levels), 1))
        by_level = zip(*(shift.split(len(condition)) for shift in shifts), strict=True)
        return [lambda z, own=own: self._shifted(z, *own) for own in by_level]

    def _shifts(self, noise_level: Tensor, condition: Tensor) -> list[Tensor]:
        """What noise level `[B]` and condition `[B, K]` add to the embedded z and in each block, all `[B, width]`."""
        c = self.condition(noise_level, condition).to(self.embed.weight.dtype)
        hidden = functional.silu(c)
        return [c, *(shift(hidden) for shift in self.shift)]

    def _shifted(self, z: Tensor, c: Tensor, *shifts: Tensor) -> Tensor:
        h = self.embed(z.to(self.embed.weight.dtype)) + c
        for first, shift, second in zip(self.first, shifts, self.second, strict=True):
            h = h + second(functional.silu(first(self.norm(h)) + shift))
        return self.head(self.norm(h))


class InRows(nn.Module):
    """A network over rows `[B, H, C]` as one over coefficients `[B, R]`: lifted on the way in, projected on the way out."""

    def __init__(self, gaussian: ConditionalGaussian, network: nn.Module) -> None:
        super().__init__()
        self._gaussian = [gaussian]  # in a list, so that it is not registered twice
        self.network = network

    def forward(self, z: Tensor, noise_level: Tensor, condition: Tensor) -> Tensor:
        gaussian = self._gaussian[0]
        return gaussian.project(self.network(gaussian.lift(z), noise_level, condition).float())


def make_backbone(config: NetworkConfig, gaussian: ConditionalGaussian, horizon: int, channels: int, condition_dim: int) -> nn.Module:
    """The raw network F over coefficients `[B, R]`, noise levels `[B]` and conditions `[B, condition_dim]`."""
    match config.backbone:
        case "mlp":
            return ResidualMLP(config, gaussian.rank, condition_dim)
        case "dit":
            return InRows(gaussian, DiT(config, horizon, channels, condition_dim))
        case "unet":
            return InRows(gaussian, UNet(config, horizon, channels, condition_dim))


def in_bfloat16(backbone: nn.Module) -> RawNetwork:
    """The raw network with its weights rounded to bfloat16, in which it then computes; gradients reach the weights themselves.

    What embeds the condition stays in float32: cosines of large angles need it, and it costs little, being no function of the rows.
    """
    precise = {p for module in backbone.modules() if isinstance(module, ConditionEmbedding) for p in module.parameters()}
    rounded = {name: p.bfloat16() for name, p in backbone.named_parameters() if p not in precise}
    return lambda *inputs: functional_call(backbone, rounded, inputs)


def at_levels(network: RawNetwork, noise_levels: Tensor, condition: Tensor) -> list[Callable[[Tensor], Tensor]]:
    """F under `condition [B, K]` at each of the noise levels `[S]`: functions of coefficients `[B, R]` alone."""
    if isinstance(network, ResidualMLP):
        return network.at_levels(noise_levels, condition)
    return [lambda z, level=level: network(z, level.expand(len(z)), condition) for level in noise_levels]


def mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """A plain network with layer norm, for the small models beside the denoisers."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.LayerNorm(width), nn.SiLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
