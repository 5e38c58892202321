"""From a Minari dataset to the store's arrays: checked field by field, flattened on purpose. The only reader of Minari."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import h5py
import minari
import numpy as np
from gymnasium import spaces
from h5py import h5d, h5f, h5g, h5s, h5t  # pyright: ignore
from minari import EpisodeData, MinariDataset
from numpy.typing import DTypeLike, NDArray

from atradiff.data.counts import Counts, beyond, bounds
from atradiff.data.environment import box_actions, flatten, has_goal, space_dims, split_observation
from atradiff.data.store import OfflineData, stack_trajectories
from atradiff.errors import UserError
from atradiff.trajectory import Array, IntArray, Spec, Trajectory
from atradiff.untrusted import FOREIGN_ERRORS, Damaged, inside, reason

MAXIMUM_REWARD_VALUES = 8
SHARE_SEED = 0
SEVERAL = 10
SENSOR_NOISE = 0.05
"""Two entries of observations that differ by less, in the square mean, tell the same."""
MINARI_ERRORS = (OSError, ImportError, *FOREIGN_ERRORS)
MAXIMUM_COMPRESSION = 1_100
"""Bytes that one byte of an HDF5 file can stand for; gzip's most is 1,032."""


def open_dataset(dataset_id: str) -> MinariDataset:
    """The local Minari dataset, or a `UserError` that says what to do."""
    if not re.fullmatch(r"\w[\w.:%-]*(/\w[\w.:%-]*)*", dataset_id):
        raise UserError(f"{dataset_id!r} is no id of a Minari dataset: ids are words divided by '/', such as local/my-data-v0")
    try:
        dataset = minari.load_dataset(dataset_id)
        for file in Path(str(dataset.storage.data_path)).iterdir():
            inside(file.parent, file.name)
        return dataset
    except FileNotFoundError as error:
        raise UserError(
            f"the Minari dataset {dataset_id!r} is not on this machine: run `atradiff collect` if params.yaml names it, `minari download {dataset_id}` "
            "if Minari has it, or choose one that `atradiff data list` shows"
        ) from error
    except MINARI_ERRORS as error:
        raise UserError(f"the Minari dataset {dataset_id!r} cannot be read ({error}): delete and make it again") from error


def download_dataset(dataset_id: str) -> None:
    """Fetch a remote Minari dataset, or say in one sentence why not."""
    try:
        minari.download_dataset(dataset_id)
    except Exception as error:  # the hub's client raises many kinds; all of them mean "could not be fetched"
        raise UserError(
            f"the Minari dataset {dataset_id!r} is not on this machine and could not be downloaded ({type(error).__name__}): "
            f"run `minari download {dataset_id}` where there is a network, copy it here, or set task.dataset.id to a local dataset"
        ) from error


def state_keys(dataset: MinariDataset) -> tuple[str, ...]:
    """The parts of a goal environment's observation that make up its state: `observation`, and `achieved_goal` where an entry of that is
    not in `observation` too, as an ant's place in its maze is not. Read off the first episodes; sensors may be a little off.
    """
    space = dataset.observation_space
    if not has_goal(space) or "achieved_goal" not in space.spaces or dataset.total_episodes == 0:
        return ("observation",)
    rows: list[list[Array]] = []
    for episode in dataset.iterate_episodes(dataset.episode_indices[:SEVERAL]):
        leading = (len(episode.rewards) + 1,)
        rows.append([flatten(space[key], episode.observations[key], leading) for key in ("observation", "achieved_goal")])
    state, achieved = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    contained = all(np.square(state - entry[:, None]).mean(axis=0).min() < SENSOR_NOISE**2 for entry in achieved.T)
    return ("observation",) if contained else ("observation", "achieved_goal")


def dataset_fingerprint(dataset: MinariDataset) -> str:
    """SHA-256 over the dataset's data files, for provenance and for the DAG's cache."""
    digest = hashlib.sha256()
    folder = Path(str(dataset.storage.data_path))
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "metadata.json"):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def draw_episodes(dataset: MinariDataset, share: float) -> IntArray:
    """The ids of a share of the dataset's episodes, always the same, ascending; at least two, as one of them will be held out."""
    order = np.random.default_rng(SHARE_SEED).permutation(dataset.episode_indices)
    return np.sort(order[: max(2, round(share * len(order)))])


def convert(
    dataset: MinariDataset,
    report: Callable[[int], None],
    episodes: IntArray | None = None,
    state_keys: Sequence[str] = ("observation",),
    tell: Callable[[Counts], None] = lambda counts: None,
) -> OfflineData:
    """Read, check and flatten the episodes of the given ids, or all; `report` hears the number of episodes read, and `tell` what was
    counted in the end. Of goal environments `state_keys` are the parts that make up the state.

    An episode whose task (`desired_goal`) changes on the way is split there: each part is one task's trajectory. Raises
    `UserError` for data without episodes, NaN or infinity, broken lengths, ends in the middle of an episode, spaces that are not
    continuous, and files that claim more than they hold or whose data is elsewhere.
    """
    where = f"dataset {dataset.id!r}"
    if dataset.total_episodes == 0:
        raise UserError(f"{where} has no episodes: collect or download it again")
    action_space = box_actions(dataset.action_space, where)
    state_dim, task_dim = space_dims(dataset.observation_space, state_keys)
    parts: list[_Fields] = []
    try:
        for number, episode in enumerate(_stored_episodes(dataset, episodes)):
            parts.append(_episode_fields(episode, dataset, state_keys, where))
            report(number + 1)
    except MINARI_ERRORS as error:
        raise UserError(f"{where} is damaged ({reason(error)}): delete and make it again") from error
    _require_finite(parts)
    tell(_count(parts, dataset, state_keys))
    rewards = np.unique(np.concatenate([part.rewards for part in parts]))
    spec = Spec(
        state_dim=state_dim,
        action_dim=int(action_space.shape[0]),
        task_dim=task_dim,
        action_low=tuple(action_space.low.tolist()),
        action_high=tuple(action_space.high.tolist()),
        reward_values=few_values(rewards),
        reward_minimum=float(rewards[0]),
    )
    return stack_trajectories([trajectory for part in parts for trajectory in part.trajectories()], spec)


def few_values(rewards: Array) -> tuple[float, ...]:
    """The distinct rewards, ascending, of data that has only a few; else nothing, and rewards count as continuous."""
    return tuple(rewards.tolist()) if len(rewards) <= MAXIMUM_REWARD_VALUES else ()


class _StoredEpisode:
    """An episode in Minari's HDF5 file, of which only what is asked for is read; h5py's higher objects take twice as long."""

    def __init__(self, file: h5py.File, number: int) -> None:
        group = h5g.open(file.id, f"episode_{number}".encode())
        self.id = number
        names = ("observations", "actions", "rewards", "terminations", "truncations")
        self.observations, self.actions, self.rewards, self.terminations, self.truncations = (
            cast("Any", _StoredField(group, name)) for name in names
        )


class _StoredField:
    """One field of it: an array, or parts by name."""

    def __init__(self, group: Any, path: str) -> None:
        self._group = group
        self._path = path

    def __getitem__(self, name: str) -> _StoredField:
        return _StoredField(self._group, f"{self._path}/{name}")

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        field = h5d.open(self._group, self._path.encode())
        shape, stored = field.shape, _dtype(field.get_type().encode())
        self._require_own(field, stored.itemsize * math.prod(shape))
        kind = stored if dtype is None else np.dtype(dtype)
        values = np.empty(shape, kind)
        field.read(h5s.ALL, h5s.ALL, values, h5t.NATIVE_FLOAT if kind == np.float32 else None)
        return values

    def _require_own(self, field: Any, claimed: int) -> None:
        """All of a field is in the dataset's own file: no link led to another, and it claims no more bytes than are there."""
        if claimed > MAXIMUM_COMPRESSION * (stored := field.get_storage_size()):
            raise Damaged(f"{self._path} claims {claimed:,} bytes, and its file has {stored:,} for them")
        if h5f.get_name(field) != h5f.get_name(self._group) or field.get_create_plist().get_external_count():
            raise Damaged(f"{self._path} is kept in another file")


@lru_cache(64)
def _dtype(encoded: bytes) -> np.dtype[Any]:
    """NumPy's word for an encoded type of HDF5. To find it takes longer than to read a field, and there are few of them."""
    return h5t.decode(encoded).dtype


def _stored_episodes(dataset: MinariDataset, episodes: IntArray | None) -> Iterator[EpisodeData | _StoredEpisode]:
    """The episodes of the given ids, or all; by Minari's own hand where they are not plain arrays in one HDF5 file."""
    storage = dataset.storage
    if storage.FORMAT != "hdf5" or any(space.dtype == np.uint8 for space in _boxes(dataset.observation_space)):
        yield from dataset.iterate_episodes(episodes)
        return
    with h5py.File(Path(str(storage.data_path)) / "main_data.hdf5", "r") as file:
        for number in dataset.episode_indices if episodes is None else episodes:
            yield _StoredEpisode(file, int(number))


def _boxes(space: spaces.Space[Any]) -> Iterator[spaces.Space[Any]]:
    """The space's parts that are no Dict."""
    if isinstance(space, spaces.Dict):
        for part in space.spaces.values():
            yield from _boxes(part)
    else:
        yield space


class _Fields(NamedTuple):
    """What is kept of an episode of T transitions: states `[T + 1, O]`, goals `[T + 1, K]`, actions `[T, A]`, rewards `[T]`."""

    place: str
    states: Array
    goals: Array
    actions: Array
    rewards: Array
    terminated: bool
    truncated: bool

    def trajectories(self) -> Iterator[Trajectory]:
        """One for each stretch of transitions with one task."""
        length = len(self.rewards)
        for start, end in _same_task(self.goals):
            terminated = self.terminated and end == length
            yield Trajectory(
                self.states[start : end + 1],
                self.actions[start:end],
                self.rewards[start:end],
                self.goals[start],
                terminated=terminated,
                truncated=not terminated,
            )


def _episode_fields(episode: EpisodeData | _StoredEpisode, dataset: MinariDataset, state_keys: Sequence[str], where: str) -> _Fields:
    place = f"{where}, episode {episode.id}"
    rewards = np.asarray(episode.rewards, np.float32)
    length = len(rewards)
    if length == 0:
        raise UserError(f"{place} has no steps: remove it with minari's filter_episodes")
    try:
        states, goals = split_observation(dataset.observation_space, episode.observations, (length + 1,), state_keys)
        actions = np.asarray(episode.actions, np.float32).reshape(length, -1)
    except ValueError as error:
        raise UserError(f"{place} has {length} rewards, but observations or actions of other lengths: it needs T + 1 and T rows") from error
    terminated = _ends("terminated", np.asarray(episode.terminations), length, place)
    truncated = _ends("truncated", np.asarray(episode.truncations), length, place)
    return _Fields(place, states, goals, actions, rewards.reshape(length), terminated, truncated)


def _ends(word: str, flags: np.ndarray, length: int, place: str) -> bool:
    """Whether the last of `length` steps is flagged; no other may be."""
    if flags.shape != (length,):
        raise UserError(f"{place} has {length} rewards, but tells of {flags.size} steps whether it was {word}: it needs T of them")
    at = np.flatnonzero(flags)
    if len(at) and at[0] != length - 1:
        raise UserError(f"{place} is {word} at step {int(at[0])} but goes on to {length}: split it into episodes")
    return bool(len(at))


def _count(parts: list[_Fields], dataset: MinariDataset, state_keys: Sequence[str]) -> Counts:
    actions, space = cast("spaces.Box", dataset.action_space), dataset.observation_space
    low, high = (split_observation(space, bounds(space, name), (), state_keys)[0] for name in ("low", "high"))
    return Counts(
        episodes=len(parts),
        transitions=sum(len(part.rewards) for part in parts),
        terminated=sum(part.terminated for part in parts),
        truncated=sum(part.truncated for part in parts),
        both=sum(part.terminated and part.truncated for part in parts),
        neither=sum(not (part.terminated or part.truncated) for part in parts),
        actions_beyond=beyond([part.actions for part in parts], actions.low, actions.high),
        states_beyond=beyond([part.states for part in parts], low, high),
    )


def _require_finite(parts: list[_Fields]) -> None:
    """All episodes at once; only where something is wrong is it looked for in each."""
    for name, field in {"observations": "states", "goals": "goals", "actions": "actions", "rewards": "rewards"}.items():
        values: list[Array] = [getattr(part, field) for part in parts]
        if np.isfinite(np.concatenate(values)).all():
            continue
        for part, own in zip(parts, values, strict=True):
            bad = np.flatnonzero(~np.isfinite(own).reshape(len(own), -1).all(axis=1))
            if len(bad):
                raise UserError(f"{part.place} has NaN or infinity in {name} at step {int(bad[0])}: repair or remove that episode")


def _same_task(goals: Array) -> Iterator[tuple[int, int]]:
    """The stretches [start, end) of transitions with one task; goals `[T + 1, K]`, the first T rows count."""
    length = len(goals) - 1
    changes: IntArray = np.flatnonzero((goals[1:length] != goals[: length - 1]).any(axis=1)) + 1
    edges = [0, *changes.tolist(), length]
    return pairwise(edges)
