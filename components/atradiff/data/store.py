"""The offline data at rest: one Zarr folder, the only place that knows Zarr.

Layout: an episode of T transitions takes T + 1 consecutive rows. Row t < T holds (state, action, reward) of transition t; the
closing row holds the last state, a zero action and a zero reward. So a window is a plain slice, and the padding behind an
episode's end is its closing row, repeated.

Nothing is compressed: a store may come from a stranger, and what is not unpacked cannot deceive who unpacks it.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, cast

import numpy as np
import zarr
from zarr.storage import LocalStore, MemoryStore, StorePath

from atradiff.data.memory import memory_bytes
from atradiff.errors import UserError
from atradiff.trajectory import Array, BoolArray, IntArray, Spec, Trajectory
from atradiff.untrusted import FOREIGN_ERRORS, Damaged, config_of, inside, read_json, reason

FORMAT = 3
CHUNK_ROWS = 16_384
SHARD_ROWS = 262_144
ROW_ARRAYS = ("states", "actions", "rewards")
ARRAYS = (*ROW_ARRAYS, "tasks", "episode_ends", "episode_terminated")
MAPPED_SHARE = 0.5
"""Of the memory that there is: rows that take more are mapped from a file."""
MappedArray = np.memmap[Any, np.dtype[np.float32]]
ADVISABLE = hasattr(mmap, "MADV_RANDOM")
"""Whether the system takes advice on what is mapped: Windows does not."""


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

    def episodes_of(self, rows: IntArray) -> IntArray:
        """The episodes `[N]` that the rows `[N]` belong to."""
        return np.searchsorted(self.episode_ends, rows, side="right")

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

    def of_task(self, identity: Array) -> BoolArray:
        """Which episodes `[E]` are of one of several tasks: those whose task vectors end as `identity [I]`, see `TaskEnvironment.identity`."""
        return (self.tasks[:, self.tasks.shape[1] - len(identity) :] == identity).all(-1)

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
        rows = np.memmap(file, np.float32, "w+", shape=shape)
    if ADVISABLE:  # else each page that is wanted comes with up to megabytes around it, for which others must go
        _mapping(rows).madvise(mmap.MADV_RANDOM)
    return rows


def fetch(rows: MappedArray, starts: IntArray, ends: IntArray) -> None:
    """Have the system read mapped rows from the disk, from each start to before its end, all at once; else each page is waited for when it is used."""
    if ADVISABLE:
        width = rows.strides[0]
        first = starts.astype(np.int64) * width // mmap.PAGESIZE * mmap.PAGESIZE
        for place, size in zip(first.tolist(), (ends.astype(np.int64) * width - first).tolist(), strict=True):
            _mapping(rows).madvise(mmap.MADV_WILLNEED, place, size)


def _mapping(rows: MappedArray) -> mmap.mmap:
    return cast("mmap.mmap", rows.base)


def write_store(path: Path, data: OfflineData, attributes: dict[str, Any]) -> None:
    """Write `data` as a Zarr folder with a checksum of each array, to a temporary name first. The same data gives the same bytes."""
    temporary = path.with_name(path.name + ".writing")
    if temporary.exists():
        shutil.rmtree(temporary)
    group = zarr.open_group(temporary, mode="w", zarr_format=3)
    sums: dict[str, int] = dict.fromkeys(ARRAYS, 0)
    for name in ARRAYS:
        values = cast("Array", getattr(data, name))
        array = _create_array(group, name, values.shape, values.dtype)
        array[...] = values
        for start in range(0, len(values), CHUNK_ROWS):
            sums[name] = _checksum(values[start : start + CHUNK_ROWS], sums[name])
    group.attrs.update({"format": FORMAT, "spec": data.spec.to_dict(), "crc32": sums, **attributes})
    if path.exists():
        shutil.rmtree(path)
    os.replace(temporary, path)


def _create_array(group: zarr.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> zarr.Array[Any]:
    """An empty array as stores have them. What is all zero is written like the rest, so that what is missing is seen to be."""
    rows = max(1, shape[0])
    chunk = min(CHUNK_ROWS, rows)
    shard = chunk * -(-min(SHARD_ROWS, rows) // chunk)
    columns = tuple(max(1, size) for size in shape[1:])
    chunks, shards, everything = (chunk, *columns), (shard, *columns), cast("Any", {"write_empty_chunks": True})
    return group.create_array(name, shape=shape, dtype=dtype, chunks=chunks, shards=shards, compressors=None, config=everything)


@lru_cache(len(ARRAYS))
def _layout(shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    """What Zarr keeps of such an array. To lay one out takes as long as to read a small one."""
    return _create_array(zarr.open_group(MemoryStore(), mode="w", zarr_format=3), "array", shape, dtype).metadata.to_dict()


def read_attributes(path: Path) -> dict[str, Any]:
    """What the store says of itself; raises `UserError` where there is no readable store."""
    try:
        attributes = cast("dict[str, Any]", read_json(path / "zarr.json")["attributes"])
        found = attributes.get("format")
    except (OSError, *FOREIGN_ERRORS) as error:
        raise UserError(f"no Zarr store at {path}: run `dvc repro convert` (or `atradiff convert`) to make it") from error
    if found != FORMAT:
        raise UserError(f"the store {path} has format {found}, this version reads {FORMAT}: run `dvc repro` to make it again")
    return attributes


def read_store(path: Path, mapped: bool | None = None) -> OfflineData:
    """The whole store, checked: into memory, or, `mapped`, into a file beside the store of which the system keeps in memory
    what it has room for. Without a word on it, rows that would take more than half of the memory that there is are mapped.

    Raises `UserError` where anything in it is not as `write_store` leaves it, before memory is taken for more than its files hold.
    """
    attributes = read_attributes(path)
    try:
        return _read_store(path, attributes, mapped)
    except (OSError, *FOREIGN_ERRORS) as error:
        raise UserError(f"the store {path} is damaged ({reason(error)}): run `atradiff convert` to make it again") from error


def _read_store(path: Path, attributes: dict[str, Any], mapped: bool | None) -> OfflineData:
    spec = config_of(Spec, attributes["spec"])
    sums: dict[str, int] = dict.fromkeys(ARRAYS, 0)
    arrays = _checked_arrays(path, spec)
    columns = [(name, arrays[name]) for name in ROW_ARRAYS]
    edges = np.cumsum([0, *(math.prod(column.shape[1:]) for _, column in columns)])
    shape = (columns[0][1].shape[0], int(edges[-1]))
    if mapped is None:
        mapped = 4 * math.prod(shape) > MAPPED_SHARE * memory_bytes()
    rows = _room(shape, path.parent if mapped else None)
    for start in range(0, len(rows), CHUNK_ROWS):
        block = slice(start, start + CHUNK_ROWS)
        for (name, column), left, right in zip(columns, edges, edges[1:], strict=False):
            values = np.asarray(column[block])
            sums[name] = _checksum(values, sums[name])
            rows[block, left:right] = values.reshape(-1, right - left)
        if not np.isfinite(rows[block]).all():
            raise Damaged(f"NaN or infinity in row {start + int(np.argwhere(~np.isfinite(rows[block]))[0, 0]):,}")
    rest = {name: np.asarray(arrays[name][...]) for name in ARRAYS if name not in ROW_ARRAYS}
    sums |= {name: _checksum(values) for name, values in rest.items()}
    for name in ARRAYS:
        if sums[name] != attributes["crc32"][name]:
            raise Damaged(f"the checksum of {name} is another")
    data = OfflineData(spec, rows, **rest)
    require_episodes(data)
    return data


def _checked_arrays(path: Path, spec: Spec) -> dict[str, zarr.Array[Any]]:
    """The arrays by name, each laid out as `write_store` lays it out, of the sizes that the spec says, and no larger than their files are."""
    bytes_stored = 0
    for file in path.rglob("*"):
        if file.is_symlink():  # and by nothing else does what is found in a folder lead out of it
            inside(path, file.relative_to(path).as_posix())
        bytes_stored += file.stat().st_size if file.is_file() else 0
    store = LocalStore(path, read_only=True)
    arrays = {name: zarr.Array(zarr.AsyncArray(cast("Any", read_json(path / name / "zarr.json")), StorePath(store, name))) for name in ARRAYS}
    rows, episodes = arrays["rewards"].shape[0], arrays["episode_ends"].shape[0]
    for name, (shape, dtype) in {
        "states": ((rows, spec.state_dim), np.float32),
        "actions": ((rows, spec.action_dim), np.float32),
        "rewards": ((rows,), np.float32),
        "tasks": ((episodes, spec.task_dim), np.float32),
        "episode_ends": ((episodes,), np.int64),
        "episode_terminated": ((episodes,), np.bool_),
    }.items():
        if arrays[name].metadata.to_dict() != _layout(shape, np.dtype(dtype)):
            raise Damaged(f"{name} is laid out otherwise than {rows:,} rows of {episodes:,} episodes of its task are")
    claimed = sum(array.size * array.dtype.itemsize for array in arrays.values())
    if claimed > bytes_stored:
        raise Damaged(f"{rows:,} rows are claimed, and its files have {bytes_stored:,} bytes")
    return arrays


def _checksum(values: np.ndarray, before: int = 0) -> int:
    """CRC-32 of the values' bytes, behind those that are in `before`."""
    return zlib.crc32(np.ascontiguousarray(values).data, before)


def require_episodes(data: OfflineData) -> None:
    """Raises `Damaged` unless episodes of a transition at least lie behind one another, the last ending with the rows, under tasks that are
    numbers, and the spec's own numbers belong together."""
    spec, ends = data.spec, data.episode_ends
    if not len(ends) or ends[-1] != len(data.rows) or ends[0] < 2 or (np.diff(ends) < 2).any():
        raise Damaged("its episodes do not lie behind one another")
    if not np.isfinite(data.tasks).all():
        raise Damaged(f"NaN or infinity in the task of episode {int(np.argwhere(~np.isfinite(data.tasks))[0, 0])}")
    if not len(spec.action_low) == len(spec.action_high) == spec.action_dim or (np.diff(spec.reward_values) <= 0).any():
        raise Damaged("its actions' ranges or its reward values are none")
