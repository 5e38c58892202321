"""The denoisers by horizon, each beside its untouched original."""

from __future__ import annotations

import copy

import numpy as np

from atradiff.diffusion.denoiser import Denoiser
from atradiff.errors import UserError
from atradiff.trajectory import Array, IntArray


class DenoiserBank:
    """`current` denoisers are adapted online; `original` ones never change."""

    def __init__(self, denoisers: list[Denoiser]) -> None:
        if not denoisers:
            raise UserError("denoiser.horizons is empty: name at least one horizon")
        self.current = {d.horizon: d for d in sorted(denoisers, key=lambda d: d.horizon)}
        self.original = {horizon: copy.deepcopy(d).requires_grad_(False).eval() for horizon, d in self.current.items()}

    @property
    def horizons(self) -> list[int]:
        return list(self.current)

    def shortest_cover(self, lengths: Array) -> IntArray:
        """For each length `[B]` the shortest horizon whose H - 1 transitions cover it, or the longest there is."""
        horizons = np.asarray(self.horizons)
        index = np.searchsorted(horizons - 1, np.ceil(lengths - 1e-6))
        return horizons[np.minimum(index, len(horizons) - 1)]
