"""Windows: fixed slices of H rows that never cross an episode's end, served from memory as one gather."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.errors import UserError
from atradiff.trajectory import Array, IntArray

END_RAMP = 16.0
"""Steps over which the end channel falls from 1 to 0 at a termination, and on to -1 behind it."""
FOLLOWED_ROWS = 8
"""Rows behind an episode's end that follow another episode; the last of them is then repeated."""
NEIGHBOUR_CANDIDATES = 20_000


class WindowBatch(NamedTuple):
    """rows `[B, H, C]` normalised, task `[B, K]` normalised, valid `[B, H]` (False where a truncated episode tells nothing)."""

    rows: Tensor
    task: Tensor
    valid: Tensor


class Windows:
    """All windows of `horizon` rows over the offline data.

    A termination is written as a ramp and not as a step: the end channel counts down to zero and through it, so that *when* the task
    ends can be read between rows and is nearly linear in what it depends on. Behind an episode's end a few rows follow the episode
    that passes nearest to its last state, and then the state rests: so the motion does not stop abruptly where it is still used.
    What is behind a termination is cut from every imagined trajectory, and what is behind a truncation is marked invalid. Windows of
    truncated episodes start early enough to fit where they can.
    """

    def __init__(self, data: OfflineData, horizon: int, normalizer: Normalizer, device: torch.device | str = "cpu") -> None:
        if horizon < 2:
            raise UserError(f"horizon {horizon} holds no transition; use 2 or more in denoiser.horizons")
        lengths, terminated = data.episode_lengths, data.episode_terminated
        padded = lengths + horizon  # T + 1 real rows and H - 1 behind them
        first = np.cumsum(padded) - padded
        step = np.arange(padded.sum()) - np.repeat(first, padded)
        past = np.maximum(step - np.repeat(lengths, padded), 0)
        source = _sources(data, normalizer, padded, step, past)
        outcome = _outcome_channels(data, padded, step)
        rows = normalizer.rows(data.states[source], np.where(past[:, None] < FOLLOWED_ROWS, data.actions[source], 0.0), outcome)
        counts = np.where(terminated, lengths, np.maximum(lengths + 2 - horizon, 1))
        starts = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())

        self.horizon = horizon
        self.normalizer = normalizer
        self.rows = torch.from_numpy(rows).to(device)
        self.tasks = torch.from_numpy(normalizer.tasks(data.tasks)).to(device)
        self.starts = torch.from_numpy(starts).to(device)
        self.episodes = torch.from_numpy(np.repeat(np.arange(data.num_episodes), counts)).to(device)
        self.valid_until = torch.from_numpy(np.where(terminated, first + padded, first + lengths + 1)).to(device)
        self.offsets = torch.arange(horizon, device=device)

    def __len__(self) -> int:
        return len(self.starts)

    def sample(self, batch_size: int, generator: torch.Generator) -> WindowBatch:
        """`batch_size` windows, uniform over all starts, with replacement. The generator lives on the CPU."""
        return self.at(torch.randint(len(self), (batch_size,), generator=generator).to(self.starts.device))

    def at(self, index: Tensor) -> WindowBatch:
        """The windows of the given numbers `[B]`."""
        episode = self.episodes[index]
        position = self.starts[index][:, None] + self.offsets
        return WindowBatch(self.rows[position], self.tasks[episode], position < self.valid_until[episode][:, None])


def _sources(data: OfflineData, normalizer: Normalizer, padded: IntArray, step: IntArray, past: IntArray) -> IntArray:
    """The row that stands at each padded position: the episode's own, then those that follow its last state's nearest neighbour."""
    states = normalizer.states(data.states)
    rows = data.transition_rows()
    candidates = rows[:: max(1, len(rows) // NEIGHBOUR_CANDIDATES)]
    _, nearest = KDTree(states[candidates]).query(states[data.episode_ends - 1])
    follow = np.arange(1, len(states) + 1)
    follow[data.episode_ends - 1] = candidates[nearest]  # a chain of rows that never ends
    behind = np.empty((data.num_episodes, FOLLOWED_ROWS + 1), dtype=np.int64)
    behind[:, 0] = data.episode_ends - 1
    for k in range(FOLLOWED_ROWS):
        behind[:, k + 1] = follow[behind[:, k]]
    own = np.repeat(data.episode_starts, padded) + step
    followed = behind[np.repeat(np.arange(data.num_episodes), padded), np.minimum(past, FOLLOWED_ROWS)]
    return np.where(past > 0, followed, own)


def _outcome_channels(data: OfflineData, padded: IntArray, step: IntArray) -> Array:
    """(reward, end, final reward) `[N, 3]` at each padded position; a termination's own reward is in the third and not the first."""
    lengths, terminated = data.episode_lengths, data.episode_terminated
    last = np.where(terminated, np.maximum(lengths - 2, 0), lengths - 1)  # the last transition whose reward is an ordinary one
    reward = data.rewards[np.repeat(data.episode_starts, padded) + np.minimum(step, np.repeat(last, padded))]
    until_end = np.repeat(lengths - 0.5, padded) - step
    end = np.where(np.repeat(terminated, padded), np.clip(until_end / END_RAMP, -1.0, 1.0), 1.0)
    final = np.repeat(data.rewards[data.episode_ends - 2], padded)
    return np.stack([reward, end, final], axis=-1).astype(np.float32)
