"""From a Minari dataset to the store's arrays: checked field by field, flattened on purpose. The only reader of Minari."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import minari
import numpy as np
from minari import EpisodeData, MinariDataset

from atradiff.data.environment import box_actions, space_dims, split_observation
from atradiff.data.store import OfflineData, stack_trajectories
from atradiff.errors import UserError
from atradiff.trajectory import Array, IntArray, Spec, Trajectory

MAXIMUM_REWARD_VALUES = 8
SHARE_SEED = 0
MINARI_ERRORS = (OSError, ValueError, KeyError, ImportError, RuntimeError)


def open_dataset(dataset_id: str) -> MinariDataset:
    """The local Minari dataset, or a `UserError` that says what to do."""
    try:
        return minari.load_dataset(dataset_id)
    except FileNotFoundError as error:
        raise UserError(
            f"the Minari dataset {dataset_id!r} is not on this machine: run `atradiff collect`, or `minari download {dataset_id}` with a network"
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


def convert(dataset: MinariDataset, report: Callable[[int], None], episodes: IntArray | None = None) -> OfflineData:
    """Read, check and flatten the episodes of the given ids, or all; `report` hears the number of episodes read.

    An episode whose task (`desired_goal`) changes on the way is split there: each part is one task's trajectory. Raises
    `UserError` for data without episodes, NaN or infinity, broken lengths, or spaces that are not continuous.
    """
    where = f"dataset {dataset.id!r}"
    if dataset.total_episodes == 0:
        raise UserError(f"{where} has no episodes: collect or download it again")
    action_space = box_actions(dataset.action_space, where)
    state_dim, task_dim = space_dims(dataset.observation_space)
    parts: list[Trajectory] = []
    for number, episode in enumerate(dataset.iterate_episodes(episodes)):
        parts.extend(_episode_trajectories(episode, dataset, where))
        report(number + 1)
    rewards = np.unique(np.concatenate([part.rewards for part in parts]))
    spec = Spec(
        state_dim=state_dim,
        action_dim=int(action_space.shape[0]),
        task_dim=task_dim,
        action_low=tuple(action_space.low.tolist()),
        action_high=tuple(action_space.high.tolist()),
        reward_values=tuple(rewards.tolist()) if len(rewards) <= MAXIMUM_REWARD_VALUES else (),
        reward_minimum=float(rewards[0]),
    )
    return stack_trajectories(parts, spec)


def _episode_trajectories(episode: EpisodeData, dataset: MinariDataset, where: str) -> Iterator[Trajectory]:
    place = f"{where}, episode {episode.id}"
    length = len(episode.rewards)
    if length == 0:
        raise UserError(f"{place} has no steps: remove it with minari's filter_episodes")
    try:
        states, tasks = split_observation(dataset.observation_space, episode.observations, (length + 1,))
        actions = np.asarray(episode.actions, np.float32).reshape(length, -1)
    except ValueError as error:
        raise UserError(f"{place} has {length} rewards, but observations or actions of other lengths: it needs T + 1 and T rows") from error
    rewards = np.asarray(episode.rewards, np.float32).reshape(length)
    for name, values in {"observations": states, "goals": tasks, "actions": actions, "rewards": rewards}.items():
        _require_finite(values, name, place)
    terminations = np.flatnonzero(episode.terminations)
    if len(terminations) and terminations[0] != length - 1:
        raise UserError(f"{place} is terminated at step {int(terminations[0])} but goes on to {length}: split it into episodes")
    for start, end in _same_task(tasks):
        terminated = bool(len(terminations)) and end == length
        yield Trajectory(
            states[start : end + 1], actions[start:end], rewards[start:end], tasks[start], terminated=terminated, truncated=not terminated
        )


def _require_finite(values: Array, name: str, place: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if len(bad):
        raise UserError(f"{place} has NaN or infinity in {name} at step {int(bad[0])}: repair or remove that episode")


def _same_task(tasks: Array) -> Iterator[tuple[int, int]]:
    """The stretches [start, end) of transitions with one task; tasks `[T + 1, K]`, the first T rows count."""
    length = len(tasks) - 1
    changes: IntArray = np.flatnonzero((tasks[1:length] != tasks[: length - 1]).any(axis=1)) + 1
    edges = [0, *changes.tolist(), length]
    return pairwise(edges)
