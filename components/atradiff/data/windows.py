"""Windows: fixed slices of H rows that never cross an episode's end, served from memory as one gather."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.errors import UserError


class WindowBatch(NamedTuple):
    """rows `[B, H, C]` normalised, task `[B, K]` normalised, valid `[B, H]` (False where a truncated episode tells nothing)."""

    rows: Tensor
    task: Tensor
    valid: Tensor


class Windows:
    """All windows of `horizon` rows over the offline data.

    Behind a *terminated* episode's end the closing row is repeated, with `terminated` on: an absorbing state, which the
    denoiser learns like any other row. Behind a *truncated* one nothing is known: windows start early enough to fit, and where
    the episode is shorter than the horizon the missing rows are marked invalid.
    """

    def __init__(self, data: OfflineData, horizon: int, normalizer: Normalizer, device: torch.device | str = "cpu") -> None:
        if horizon < 2:
            raise UserError(f"horizon {horizon} holds no transition; use 2 or more in denoiser.horizons")
        starts, ends = data.episode_starts, data.episode_ends
        last_start = np.where(data.episode_terminated, ends - 2, np.maximum(ends - horizon, starts))
        counts = last_start - starts + 1
        window_starts = np.concatenate([np.arange(s, s + c) for s, c in zip(starts, counts, strict=True)])
        window_episodes = np.repeat(np.arange(data.num_episodes), counts)
        terminated = np.zeros(len(data.states), dtype=bool)
        terminated[ends - 1] = data.episode_terminated
        final = np.flatnonzero(data.episode_terminated)
        terminated[ends[final] - 2] = True  # the transition that ended the task says so too
        rewards = data.rewards.copy()
        rewards[ends[final] - 1] = rewards[ends[final] - 2]  # and the absorbing rows repeat its reward, see `Normalizer.outcomes`
        rows = normalizer.rows(data.states, data.actions, rewards, terminated)

        self.horizon = horizon
        self.normalizer = normalizer
        self.rows = torch.from_numpy(rows).to(device)
        self.tasks = torch.from_numpy(normalizer.tasks(data.tasks)).to(device)
        self.starts = torch.from_numpy(window_starts).to(device)
        self.episodes = torch.from_numpy(window_episodes).to(device)
        self.ends = torch.from_numpy(ends).to(device)
        self.terminated = torch.from_numpy(data.episode_terminated).to(device)
        self.offsets = torch.arange(horizon, device=device)

    def __len__(self) -> int:
        return len(self.starts)

    def sample(self, batch_size: int, generator: torch.Generator) -> WindowBatch:
        """`batch_size` windows, uniform over all starts, with replacement. The generator lives on the CPU."""
        return self.at(torch.randint(len(self), (batch_size,), generator=generator).to(self.starts.device))

    def at(self, index: Tensor) -> WindowBatch:
        """The windows of the given numbers `[B]`."""
        episode = self.episodes[index]
        last = (self.ends[episode] - 1)[:, None]
        position = self.starts[index][:, None] + self.offsets
        valid = (position <= last) | self.terminated[episode][:, None]
        return WindowBatch(self.rows[torch.minimum(position, last)], self.tasks[episode], valid)
