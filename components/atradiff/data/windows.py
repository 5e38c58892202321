"""Windows: fixed slices of H rows that never cross an episode's end, served from memory as one gather."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from atradiff.data.continuation import CONTINUED_ROWS, Continuation
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData, fetch, room_like, row_ranges
from atradiff.errors import UserError
from atradiff.trajectory import Array, IntArray

END_RAMP = float(CONTINUED_ROWS)
"""Steps over which the end channel falls from 1 to 0 at a termination, and on to -1 behind it; nothing changes any more then."""
BLOCK_ROWS = 32_768
"""Rows that are normalised at once."""


class WindowBatch(NamedTuple):
    """rows `[B, H, C]` normalised, task `[B, K]` normalised, valid `[B, H]` (False where a truncated episode tells nothing)."""

    rows: Tensor
    task: Tensor
    valid: Tensor


class Windows:
    """All windows of `horizon` rows over the offline data.

    A termination is written as a ramp and not as a step: the end channel counts down to zero and through it, so that *when* the task
    ends can be read between rows and is nearly linear in what it depends on. Behind an episode's end stands its `Continuation`, so that
    the motion does not stop abruptly where it is still used. What is behind a termination is cut from every imagined trajectory, and what
    is behind a truncation is marked invalid. Windows of truncated episodes start early enough to fit where they can.

    Each episode is kept once, normalised, with the rows behind its end until nothing changes any more; the last of them then stands for
    all that come. The final reward is the same in all rows of an episode and is kept beside them.
    """

    def __init__(self, data: OfflineData, horizon: int, normalizer: Normalizer, device: torch.device | str = "cpu") -> None:
        if horizon < 2:
            raise UserError(f"horizon {horizon} holds no transition; use 2 or more in denoiser.horizons")
        lengths, terminated = data.episode_lengths, data.episode_terminated
        kept = lengths + 1 + CONTINUED_ROWS
        first = np.cumsum(kept) - kept
        counts = np.where(terminated, lengths, np.maximum(lengths + 2 - horizon, 1))
        rows, finals = _normalised_rows(data, normalizer, kept)

        def table(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device)

        self.horizon = horizon
        self.normalizer = normalizer
        self.device = torch.device(device)
        self._count = int(counts.sum())
        self._mapped = rows if isinstance(rows, np.memmap) and self.device.type == "cpu" else None
        self._rows, self._finals, self._tasks = table(rows), table(finals), table(normalizer.tasks(data.tasks))
        self._numbers = table(np.cumsum(counts))  # of the window after each episode's last
        place = np.int32 if len(rows) + horizon < 2**31 else np.int64  # half the bytes, where numbers of rows fit in
        valid_until = np.where(terminated, first + kept + horizon, first + lengths + 1)
        # Of each episode: its first window's start less its number, its last row, and the row after its last valid one.
        self._bounds = table(np.stack([first - np.cumsum(counts) + counts, first + kept - 1, valid_until], axis=1, dtype=place))
        self._offsets = torch.arange(horizon, dtype=self._bounds.dtype, device=device)
        self._first_of_all = self._offsets < torch.arange(horizon + 1, device=device)[:, None]  # the first n of H, for each n

    def __len__(self) -> int:
        return self._count

    def sample(self, batch_size: int, generator: torch.Generator) -> WindowBatch:
        """`batch_size` windows, uniform over all starts, with replacement."""
        return self.at(torch.randint(len(self), (batch_size,), generator=generator, device=generator.device).to(self.device))

    def at(self, index: Tensor) -> WindowBatch:
        """The windows of the given numbers `[B]`."""
        episode = self.episodes(index)
        first, last, valid_until = self._bounds.index_select(0, episode).unbind(1)
        start = first + index.to(first.dtype)
        position = torch.minimum(start[:, None] + self._offsets, last[:, None])
        if self._mapped is not None:
            fetch(self._mapped, start.numpy(), position[:, -1].numpy() + 1)
        rows = self._wide.index_select(0, position.flatten()).view(len(index), self.horizon, -1)
        rows[..., -1] = self._finals.index_select(0, episode)[:, None]
        valid = self._first_of_all.index_select(0, (valid_until - start).clamp(max=self.horizon))
        return WindowBatch(rows, self._tasks.index_select(0, episode), valid)

    def episodes(self, index: Tensor) -> Tensor:
        """The episodes `[B]` that the windows of the given numbers are of."""
        return torch.searchsorted(self._numbers, index, right=True)

    @property
    def _wide(self) -> Tensor:
        """The rows with one more channel, into which the final reward goes: what stands there is the beginning of the next row."""
        count, width = len(self._rows) - 1, self._rows.shape[1]
        return self._rows.as_strided((count, width + 1), (width, 1))


def _normalised_rows(data: OfflineData, normalizer: Normalizer, kept: IntArray) -> tuple[Array, Array]:
    """The first `kept` rows `[N + 1, C - 1]` of each episode and of what is behind it, normalised; an empty one at the end; and the
    final rewards `[E]`. Built some episodes at a time, and mapped where the data is.
    """
    ends = np.cumsum(kept)
    rows = room_like(data.rows, (int(ends[-1]) + 1, normalizer.num_channels - 1))
    rows[-1] = 0.0
    finals = np.empty(data.num_episodes, np.float32)
    behind = Continuation(data, normalizer)
    dims = data.spec.state_dim
    for block in np.array_split(np.arange(data.num_episodes), -(-len(rows) // BLOCK_ROWS)):
        if len(block):
            step = row_ranges(np.zeros_like(kept[block]), kept[block])
            past = step - np.repeat(data.episode_lengths[block], kept[block])
            source = np.repeat(data.episode_ends[block] - 1, kept[block]) + np.minimum(past, 0)
            values = normalizer.rows(data.states[source], data.actions[source], _outcome_channels(data, block, kept[block], step))
            actions, states = behind(block)
            values[past >= 0, dims : dims + data.spec.action_dim] = actions.reshape(-1, data.spec.action_dim)
            values[past > 0, :dims] = states.reshape(-1, dims)
            rows[ends[block[0]] - kept[block[0]] : ends[block[-1]]] = values[:, :-1]
            finals[block] = values[np.cumsum(kept[block]) - 1, -1]
    return rows, finals


def _outcome_channels(data: OfflineData, episodes: IntArray, kept: IntArray, step: IntArray) -> Array:
    """(reward, end, final reward) `[N, 3]` at each kept step of some episodes; a termination's own reward is in the third and not the first."""
    lengths, terminated = data.episode_lengths[episodes], data.episode_terminated[episodes]
    last = np.where(terminated, np.maximum(lengths - 2, 0), lengths - 1)  # the last transition whose reward is an ordinary one
    reward = data.rewards[np.repeat(data.episode_starts[episodes], kept) + np.minimum(step, np.repeat(last, kept))]
    until_end = np.repeat(lengths - 0.5, kept) - step
    end = np.where(np.repeat(terminated, kept), np.clip(until_end / END_RAMP, -1.0, 1.0), 1.0)
    final = np.repeat(data.rewards[data.episode_ends[episodes] - 2], kept)
    return np.stack([reward, end, final], axis=-1).astype(np.float32)
