"""The offline data at rest: one Zarr folder, the only place that knows Zarr.

Layout: an episode of T transitions takes T + 1 consecutive rows. Row t < T holds (state, action, reward) of transition t; the
closing row holds the last state, a zero action and a zero reward. So a window is a plain slice, and the padding behind an
episode's end is its closing row, repeated.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BloscShuffle

from atradiff.errors import UserError
from atradiff.trajectory import Array, BoolArray, IntArray, Spec, Trajectory

FORMAT = 1
CHUNK_ROWS = 16_384
SHARD_ROWS = 262_144
ARRAYS = ("states", "actions", "rewards", "tasks", "episode_ends", "episode_terminated")


@dataclass(frozen=True)
class OfflineData:
    """All offline episodes in memory.

    states `[R, O]`, actions `[R, A]`, rewards `[R]` in rows (see the module's text); per episode: tasks `[E, K]`,
    episode_ends `[E]` (the row after the closing row) and episode_terminated `[E]`.
    """

    spec: Spec
    states: Array
    actions: Array
    rewards: Array
    tasks: Array
    episode_ends: IntArray
    episode_terminated: BoolArray

    @property
    def episode_starts(self) -> IntArray:
        return np.concatenate([[0], self.episode_ends[:-1]])

    @property
    def num_episodes(self) -> int:
        return len(self.episode_ends)

    @property
    def num_transitions(self) -> int:
        return len(self.states) - self.num_episodes

    @property
    def episode_lengths(self) -> IntArray:
        """Transitions of each episode, `[E]`."""
        return self.episode_ends - self.episode_starts - 1

    def transition_rows(self) -> IntArray:
        """The rows that hold a transition (all but the closing ones), ascending, `[N]`."""
        mask = np.ones(len(self.states), dtype=bool)
        mask[self.episode_ends - 1] = False
        return np.flatnonzero(mask)

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
        """The same data with only the given episodes, in the given order."""
        starts = self.episode_starts
        rows = np.concatenate([np.arange(int(starts[e]), int(self.episode_ends[e])) for e in episodes])
        return OfflineData(
            spec=self.spec,
            states=self.states[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            tasks=self.tasks[episodes],
            episode_ends=np.cumsum(self.episode_lengths[episodes] + 1),
            episode_terminated=self.episode_terminated[episodes],
        )

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
        states=np.concatenate([t.states for t in trajectories]),
        actions=np.concatenate([part for t in trajectories for part in (t.actions, pad_action)]),
        rewards=np.concatenate([part for t in trajectories for part in (t.rewards, pad_reward)]),
        tasks=np.stack([t.task for t in trajectories]),
        episode_ends=np.cumsum([len(t) + 1 for t in trajectories]),
        episode_terminated=np.asarray([t.terminated for t in trajectories]),
    )


def concatenate(parts: Sequence[OfflineData]) -> OfflineData:
    """The episodes of all parts, in order."""
    offsets = np.cumsum([0, *(len(part.states) for part in parts)])
    return OfflineData(
        spec=parts[0].spec,
        states=np.concatenate([part.states for part in parts]),
        actions=np.concatenate([part.actions for part in parts]),
        rewards=np.concatenate([part.rewards for part in parts]),
        tasks=np.concatenate([part.tasks for part in parts]),
        episode_ends=np.concatenate([part.episode_ends + offset for part, offset in zip(parts, offsets, strict=False)]),
        episode_terminated=np.concatenate([part.episode_terminated for part in parts]),
    )


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


def read_store(path: Path) -> OfflineData:
    """Read the whole store into memory."""
    attributes = read_attributes(path)
    group = zarr.open_group(path, mode="r")
    arrays = {name: np.asarray(cast("zarr.Array[Any]", group[name])[...]) for name in ARRAYS}
    return OfflineData(spec=Spec.from_dict(attributes["spec"]), **arrays)
