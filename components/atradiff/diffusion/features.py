"""Fourier features of a condition, so that what changes within a small part of the state space can be learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FREQUENCIES = 64
SCALE = 1.0
"""Standard deviation of the frequencies, in radians for each normalised unit."""


class FourierFeatures(nn.Module):
    """A condition `[B, K]` with the cosines and sines of random projections of it behind, `[B, size]` (Tancik et al. 2020)."""

    def __init__(self, condition_dim: int, scale: float = SCALE) -> None:
        super().__init__()
        self.size = condition_dim + 2 * FREQUENCIES
        self.register_buffer("frequencies", torch.randn(condition_dim, FREQUENCIES) * scale)
        self.frequencies: Tensor

    def forward(self, condition: Tensor) -> Tensor:
        angle = condition @ self.frequencies
        return torch.cat([condition, angle.cos(), angle.sin()], dim=-1)
