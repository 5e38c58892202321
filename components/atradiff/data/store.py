"""The offline data at rest: one Zarr folder, the only place that knows Zarr.

Layout: an episode of T transitions takes T + 1 consecutive rows. Row t < T holds (state, action, reward) of transition t; the
closing row holds the last state, a zero action and a zero reward. So a window is a plain slice, and the padding behind an
episode's end is its closing row, repeated.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, cast

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BloscShuffle

from atradiff.errors import UserError
from atradiff.trajectory import Array, BoolArray, IntArray, Spec, Trajectory

FORMAT = 1
CHUNK_ROWS = 16_384
SHARD_ROWS = 262_144
ROW_ARRAYS = ("states", "actions", "rewards")
ARRAYS = (*ROW_ARRAYS, "tasks", "episode_ends", "episode_terminated")
MAPPED_SHARE = 0.5
"""Of the machine's memory: rows that take more are mapped from a file."""


@dataclass(frozen=True)
class OfflineData:
    """All offline episodes.

    rows `[R, O + A + 1]`: (state, action, reward), see the module's text; per episode: tasks `[E, K]`, episode_ends `[E]` (the row
    after the closing row) and episode_terminated `[E]`. A window is so one stretch of memory.
    """

    spec: Spec
    rows: Array
    tasks: Array
    episode_ends: IntArray
    episode_terminated: BoolArray

    @property
    def states(self) -> Array:
        """`[R, O]`, a view."""
        return self.rows[:, : self.spec.state_dim]

    @property
    def actions(self) -> Array:
        """`[R, A]`, a view."""
        return self.rows[:, self.spec.state_dim : -1]

    @property
    def rewards(self) -> Array:
        """`[R]`, a view."""
        return self.rows[:, -1]

    @property
    def episode_starts(self) -> IntArray:
        return np.concatenate([[0], self.episode_ends[:-1]])

    @property
    def num_episodes(self) -> int:
        return len(self.episode_ends)

    @property
    def num_transitions(self) -> int:
        return len(self.rows) - self.num_episodes

    @property
    def episode_lengths(self) -> IntArray:
        """Transitions of each episode, `[E]`."""
        return self.episode_ends - self.episode_starts - 1

    def transition_rows(self, start: int = 0, stop: int | None = None, step: int = 1) -> IntArray:
        """The rows that hold a transition (all but the closing ones), ascending, `[N]`; or those of a slice of the transitions."""
        numbers = np.arange(*slice(start, stop, step).indices(self.num_transitions))
        return numbers + np.searchsorted(np.cumsum(self.episode_lengths), numbers, side="right")

    def row_episodes(self) -> IntArray:
        """The episode that each row belongs to, `[R]`."""
        return np.repeat(np.arange(self.num_episodes), self.episode_lengths + 1)

    def trajectory(self, episode: int) -> Trajectory:
        start, end = int(self.episode_starts[episode]), int(self.episode_ends[episode])
        terminated = bool(self.episode_terminated[episode])
        return Trajectory(
            states=self.states[start:end],
            actions=self.actions[start : end - 1],
            rewards=self.rewards[start : end - 1],
            task=self.tasks[episode],
            terminated=terminated,
            truncated=not terminated,
        )

    def trajectories(self) -> Iterator[Trajectory]:
        return (self.trajectory(episode) for episode in range(self.num_episodes))

    def select(self, episodes: IntArray) -> OfflineData:
        """The same data with only the given episodes, in the given order; mapped where this data is."""
        lengths = self.episode_lengths[episodes]
        ends = np.cumsum(lengths + 1)
        rows = room_like(self.rows, (int(ends[-1]), self.rows.shape[1]))
        for block in np.array_split(np.arange(len(episodes)), -(-len(rows) // SHARD_ROWS)):
            if len(block):
                stop = self.episode_ends[episodes[block]]
                rows[ends[block[0]] - lengths[block[0]] - 1 : ends[block[-1]]] = self.rows[row_ranges(stop - lengths[block] - 1, stop)]
        return OfflineData(self.spec, rows, self.tasks[episodes], ends, self.episode_terminated[episodes])

    def split(self, held_out_share: float, generator: np.random.Generator) -> tuple[OfflineData, OfflineData]:
        """Split by episodes into (kept, held out); the held-out part has at least one episode, and so has the kept one."""
        if self.num_episodes < 2:
            raise UserError(f"the offline data has {self.num_episodes} episode; at least 2 are needed to hold one out: collect more")
        count = min(max(1, round(held_out_share * self.num_episodes)), self.num_episodes - 1)
        order = generator.permutation(self.num_episodes)
        return self.select(np.sort(order[count:])), self.select(np.sort(order[:count]))


def stack_trajectories(trajectories: list[Trajectory], spec: Spec) -> OfflineData:
    """Lay trajectories out in rows, each closed by its last state."""
    pad_action, pad_reward = np.zeros((1, spec.action_dim), np.float32), np.zeros(1, np.float32)
    return OfflineData(
        spec=spec,
        rows=pack_rows(
            np.concatenate([t.states for t in trajectories]),
            np.concatenate([part for t in trajectories for part in (t.actions, pad_action)]),
            np.concatenate([part for t in trajectories for part in (t.rewards, pad_reward)]),
        ),
        tasks=np.stack([t.task for t in trajectories]),
        episode_ends=np.cumsum([len(t) + 1 for t in trajectories]),
        episode_terminated=np.asarray([t.terminated for t in trajectories]),
    )


def concatenate(parts: Sequence[OfflineData]) -> OfflineData:
    """The episodes of all parts, in order; mapped where the first part is."""
    offsets = np.cumsum([0, *(len(part.rows) for part in parts)])
    rows = room_like(parts[0].rows, (int(offsets[-1]), parts[0].rows.shape[1]))
    return OfflineData(
        spec=parts[0].spec,
        rows=np.concatenate([part.rows for part in parts], out=rows),
        tasks=np.concatenate([part.tasks for part in parts]),
        episode_ends=np.concatenate([part.episode_ends + offset for part, offset in zip(parts, offsets, strict=False)]),
        episode_terminated=np.concatenate([part.episode_terminated for part in parts]),
    )


def pack_rows(states: Array, actions: Array, rewards: Array) -> Array:
    """Rows `[R, O + A + 1]` of states `[R, O]`, actions `[R, A]` and rewards `[R]`."""
    return np.concatenate([states, actions, rewards[:, None]], axis=1, dtype=np.float32)


def row_ranges(starts: IntArray, ends: IntArray) -> IntArray:
    """The numbers from each start to before its end, one range behind the other."""
    sizes = ends - starts
    return np.repeat(ends - np.cumsum(sizes), sizes) + np.arange(sizes.sum())


def room_like(rows: Array, shape: tuple[int, int]) -> Array:
    """Room for other rows, where these are: in memory, or, if these are mapped, in another file of their folder."""
    return _room(shape, Path(rows.filename).parent if isinstance(rows, np.memmap) and rows.filename else None)


def _room(shape: tuple[int, int], folder: Path | None) -> Array:
    """Room for rows: in memory, or in a file of `folder` that has no name and goes with its last reader."""
    if folder is None:
        return np.empty(shape, np.float32)
    with NamedTemporaryFile(dir=folder, prefix=".rows-") as file:
        return np.memmap(file, np.float32, "w+", shape=shape)


def write_store(path: Path, data: OfflineData, attributes: dict[str, Any]) -> None:
    """Write `data` as a Zarr folder, to a temporary name first. The same data gives the same bytes."""
    temporary = path.with_name(path.name + ".writing")
    if temporary.exists():
        shutil.rmtree(temporary)
    group = zarr.open_group(temporary, mode="w", zarr_format=3)
    codec = BloscCodec(cname="zstd", clevel=5, shuffle=BloscShuffle.bitshuffle)
    for name in ARRAYS:
        values = cast("Array", getattr(data, name))
        rows = max(1, len(values))
        chunk = min(CHUNK_ROWS, rows)
        shard = chunk * -(-min(SHARD_ROWS, rows) // chunk)
        columns = tuple(max(1, size) for size in values.shape[1:])
        array = group.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=(chunk, *columns), shards=(shard, *columns), compressors=[codec]
        )
        array[...] = values
    group.attrs.update({"format": FORMAT, "spec": data.spec.to_dict(), **attributes})
    if path.exists():
        shutil.rmtree(path)
    os.replace(temporary, path)


def read_attributes(path: Path) -> dict[str, Any]:
    """What the store says of itself; raises `UserError` where there is no readable store."""
    try:
        attributes = cast("dict[str, Any]", json.loads((path / "zarr.json").read_text())["attributes"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no Zarr store at {path}: run `dvc repro convert` (or `atradiff convert`) to make it") from error
    if attributes.get("format") != FORMAT:
        raise UserError(f"the store {path} has format {attributes.get('format')}, this version reads {FORMAT}: run `atradiff convert` again")
    return attributes


def read_store(path: Path, mapped: bool | None = None) -> OfflineData:
    """The whole store, decompressed: into memory, or, `mapped`, into a file beside the store of which the system keeps in memory what it
    has room for. Without a word on it, rows that would take more than half of the machine's memory are mapped.
    """
    attributes = read_attributes(path)
    group = zarr.open_group(path, mode="r")
    arrays = {name: cast("zarr.Array[Any]", group[name]) for name in ARRAYS}
    columns = [arrays[name] for name in ROW_ARRAYS]
    edges = np.cumsum([0, *(math.prod(column.shape[1:]) for column in columns)])
    shape = (columns[0].shape[0], int(edges[-1]))
    if mapped is None:
        mapped = 4 * math.prod(shape) > MAPPED_SHARE * _memory_bytes()
    rows = _room(shape, path.parent if mapped else None)
    for start in range(0, len(rows), CHUNK_ROWS):
        block = slice(start, start + CHUNK_ROWS)
        for column, left, right in zip(columns, edges, edges[1:], strict=False):
            rows[block, left:right] = np.asarray(column[block]).reshape(-1, right - left)
    rest = {name: np.asarray(arrays[name][...]) for name in ARRAYS if name not in ROW_ARRAYS}
    return OfflineData(Spec.from_dict(attributes["spec"]), rows, **rest)


def _memory_bytes() -> int:
    """What the machine has; where the system does not say, more than anybody needs."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**62
