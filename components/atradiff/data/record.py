"""Episodes on their way into a Minari dataset, with a note in it of where they are from."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import minari
import numpy as np
from gymnasium import spaces
from minari import MinariDataset
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_dataset import parse_dataset_id
from minari.namespace import create_namespace, list_local_namespaces
from minari.storage import get_dataset_path

from atradiff.data.environment import TaskEnvironment, has_goal, space_dims
from atradiff.errors import UserError
from atradiff.trajectory import Array, Trajectory

COLLECTED = "Collected by atradiff with this recipe: "
IMAGINED = "Imagined by atradiff, not recorded: "
MINARI_ROOT = "MINARI_DATASETS_PATH"


def require_new(dataset_id: str) -> None:
    """Raise `UserError` for an id that Minari does not take, and for one that is taken."""
    try:
        parse_dataset_id(dataset_id)
    except ValueError as error:
        raise UserError(f"{dataset_id!r} is no id of a Minari dataset, which has a version at its end: give one such as local/my-data-v0") from error
    if dataset_id in minari.list_local_datasets():
        raise UserError(f"the Minari dataset {dataset_id!r} is there already: choose another id, or delete it with `minari delete {dataset_id}`")


def write_dataset(
    dataset_id: str,
    buffers: list[EpisodeBuffer],
    environment: TaskEnvironment,
    algorithm: str,
    beginning: str,
    note: dict[str, Any],
    observation_space: spaces.Space[Any] | None = None,
) -> None:
    """Write episodes as the Minari dataset `dataset_id`; without an `observation_space` they have the environment's own.

    Its description is `beginning` and the note as JSON. It is whole or not there, also where this process is killed: Minari itself would leave a
    folder that looks like a dataset. Raises `UserError` as `require_new` does.
    """
    with _put_in_place(dataset_id), warnings.catch_warnings():  # the data stays on this machine: there is nobody to write to and no page to link
        warnings.filterwarnings("ignore", "`(author_email|code_permalink)` is set to None", UserWarning)
        minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            env=environment.env,
            eval_env=environment.env,
            observation_space=observation_space,
            author="atradiff",
            algorithm_name=algorithm,
            description=beginning + json.dumps(note),
        )


@contextmanager
def _put_in_place(dataset_id: str) -> Generator[None]:
    """While it is entered, Minari's root is a folder in the true one that Minari does not list; then the dataset moves from there to its place."""
    root, given = get_dataset_path(), os.environ.get(MINARI_ROOT)
    staging = root / ".writing"
    with (root / ".writing.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with its process; whoever comes next clears up
        require_new(dataset_id)
        shutil.rmtree(staging, ignore_errors=True)
        os.environ[MINARI_ROOT] = str(staging)
        try:
            yield
        finally:
            if given is None:
                del os.environ[MINARI_ROOT]
            else:
                os.environ[MINARI_ROOT] = given
        namespace, *_ = parse_dataset_id(dataset_id)
        if namespace is not None and namespace not in list_local_namespaces():
            create_namespace(namespace)
        os.replace(staging / dataset_id, root / dataset_id)
        shutil.rmtree(staging)


def read_note(dataset: MinariDataset, beginning: str) -> dict[str, Any] | None:
    """The note of a dataset that was written here with such a beginning; None for others."""
    description = str(dataset.storage.metadata.get("description", ""))
    return json.loads(description.removeprefix(beginning)) if description.startswith(beginning) else None


def stack(observations: Sequence[Any]) -> Any:
    """Observations of consecutive steps as arrays, in the Dicts that they are in."""
    if isinstance(observations[0], Mapping):
        return {key: stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack(observations)


def unflatten(space: spaces.Space[Any], values: Array) -> Any:
    """The inverse of `flatten`: values `[T, D]` as the Box's arrays, in the (nested) Dict that the space is."""
    if isinstance(space, spaces.Dict):
        sizes = [space_dims(part)[0] for part in space.spaces.values()]
        parts = np.split(values, np.cumsum(sizes)[:-1], axis=1)
        return {key: unflatten(part, own) for (key, part), own in zip(space.spaces.items(), parts, strict=True)}
    return values.reshape(len(values), *(space.shape or ())).astype(space.dtype)


class Unsplit:
    """Trajectories as episodes with observations like the environment's own: the inverse of `split_observation`.

    Of a goal environment's observation, `space` keeps the parts that are known: the state's, the goal, and `achieved_goal` where
    task.environment.achieved_goal tells which state entries these are.
    """

    def __init__(self, environment: TaskEnvironment) -> None:
        full, config = environment.env.observation_space, environment.config
        self.space: spaces.Space[Any] = full
        self._action_type = environment.action_space.dtype
        self._goal_dim = environment.spec.task_dim - len(config.task_id)
        self._achieved: list[int] = []
        self._state = full
        if has_goal(full):
            self._state = spaces.Dict([(key, full[key]) for key in config.state_keys])
            achieved = full.spaces.get("achieved_goal")
            known = {key: full[key] for key in (*config.state_keys, "desired_goal")}
            if achieved is not None and "achieved_goal" not in known and space_dims(achieved)[0] == len(config.achieved_goal):
                self._achieved = list(config.achieved_goal)
                known["achieved_goal"] = achieved
            self.space = spaces.Dict(known)

    def __call__(self, trajectory: Trajectory) -> EpisodeBuffer:
        """An episode that ends as the trajectory does."""
        last = [False] * (len(trajectory) - 1)
        observations = unflatten(self._state, trajectory.states)
        if has_goal(self.space):
            goals = np.tile(trajectory.task[: self._goal_dim], (len(trajectory) + 1, 1))
            observations["desired_goal"] = unflatten(self.space["desired_goal"], goals)
            if self._achieved:
                observations["achieved_goal"] = unflatten(self.space["achieved_goal"], trajectory.states[:, self._achieved])
        return EpisodeBuffer(
            observations=observations,
            actions=trajectory.actions.astype(self._action_type),  # type: ignore[arg-type]
            rewards=trajectory.rewards.tolist(),
            terminations=[*last, trajectory.terminated],
            truncations=[*last, not trajectory.terminated],
        )
