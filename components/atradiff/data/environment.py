"""Environments as this project sees them: flat observations, `terminated` and `truncated` apart, success told by name."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Sequence
from ctypes import ArgumentError
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import gymnasium as gym
import numpy as np
from annotated_types import Ge
from gymnasium import spaces
from typing_extensions import Doc, TypeIs

from atradiff.data import metaworld
from atradiff.data.shift import UNSHIFTED, ShiftConfig, shift_environment
from atradiff.errors import UserError
from atradiff.numbers import require_finite
from atradiff.trajectory import Array, BoolArray, Spec

SUCCESS_KEYS = ("success", "is_success")
RENDERER_FAILURES = (ImportError, AttributeError, RuntimeError, ArgumentError, gym.error.Error)
"""Each of MuJoCo's renderers fails in its own way."""


@dataclass(frozen=True)
class EnvironmentConfig:
    """Which environment the agent acts in, and how its episodes begin and end."""

    id: Annotated[str, Doc("Gymnasium id of the environment the agent acts in.")] = "PointMaze_UMaze-v3"
    kwargs: Annotated[dict[str, Any], Doc("Keyword arguments of gymnasium.make.")] = field(default_factory=dict[str, Any])
    reset_options: Annotated[dict[str, Any], Doc("Options of every online and evaluation reset.")] = field(default_factory=dict[str, Any])
    max_episode_steps: Annotated[int, Ge(1), Doc("Env steps after which an episode is truncated.")] = 300
    achieved_goal: Annotated[tuple[int, ...], Doc("State entries that the goal is compared with; empty where there is no goal.")] = ()
    state_keys: Annotated[tuple[str, ...], Doc("Goal environments: the parts of an observation that make up the state, in this order.")] = ("observation",)
    task_id: Annotated[tuple[int, ...], Doc("Which of several mixed datasets this is the task of: [1, 0] is the first of two; empty is not told.")] = ()


def flatten(space: spaces.Space[Any], value: Any, leading: tuple[int, ...] = ()) -> Array:
    """Flatten a Box or a (nested) Dict of Boxes to `[*leading, D]` float32, keys in the space's order.

    Raises `UserError` for any other space: nothing is flattened by accident.
    """
    if isinstance(space, spaces.Box):
        return np.asarray(value, np.float32).reshape(*leading, int(np.prod(space.shape)))
    if isinstance(space, spaces.Dict):
        parts = [flatten(part, value[key], leading) for key, part in space.spaces.items()]
        return np.concatenate(parts, axis=-1) if parts else np.zeros((*leading, 0), np.float32)
    raise UserError(f"observation space {type(space).__name__} is not supported: use Box or (nested) Dict of Box observations")


def has_goal(space: spaces.Space[Any]) -> TypeIs[spaces.Dict]:
    """Whether this is a goal environment's observation space: a Dict with `observation` and `desired_goal`."""
    return isinstance(space, spaces.Dict) and {"observation", "desired_goal"} <= set(space.spaces)


def split_observation(
    space: spaces.Space[Any], value: Any, leading: tuple[int, ...] = (), state_keys: Sequence[str] = ("observation",)
) -> tuple[Array, Array]:
    """State `[*leading, O]` and task `[*leading, K]` of an observation.

    Goal environments (Dict with `observation` and `desired_goal`): the state is the parts `state_keys`, the task is `desired_goal`.
    All others: everything is state and the task has dimension 0. Raises `UserError` where a part is missing.
    """
    if not has_goal(space):
        return flatten(space, value, leading), np.zeros((*leading, 0), np.float32)
    missing = [key for key in state_keys if key not in space.spaces]
    if missing or not state_keys:
        raise UserError(
            f"task.environment.state_keys is {list(state_keys)}, but the observation's parts are {', '.join(space.spaces)}: name some of these"
        )
    state = np.concatenate([flatten(space[key], value[key], leading) for key in state_keys], axis=-1)
    return state, flatten(space["desired_goal"], value["desired_goal"], leading)


def space_dims(space: spaces.Space[Any], state_keys: Sequence[str] = ("observation",)) -> tuple[int, int]:
    """(O, K) of an observation space."""
    state, task = split_observation(space, space.sample(), (), state_keys)
    return len(state), len(task)


def box_actions(space: spaces.Space[Any], where: str) -> spaces.Box:
    """The action space, if it is a flat and bounded Box; else a `UserError` that names `where`."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise UserError(f"{where} has the action space {space}: only one-dimensional continuous (Box) actions are supported")
    if not np.isfinite([space.low, space.high]).all():
        raise UserError(f"{where} has unbounded actions {space}: wrap it so that the Box has finite bounds")
    return space


def no_renderer(error: Exception) -> UserError:
    """What a user is told where the renderer that MUJOCO_GL names does not work."""
    backend = os.environ.get("MUJOCO_GL", "glfw")
    return UserError(
        f"there is no renderer (MUJOCO_GL is {backend}: {error}): set MUJOCO_GL to egl (Debian: libegl1, libopengl0 and libgl1-mesa-dri) or "
        "osmesa (libosmesa6), or unset it where nothing is drawn"
    )


def _register(environment_id: str) -> None:
    """Let gymnasium know of the environment, if it is one of those that we know where to find."""
    robotics = environment_id.startswith(("PointMaze", "AntMaze", "Fetch", "Franka", "Adroit"))
    known = gym.registry.get(environment_id)
    if robotics or environment_id == metaworld.ENVIRONMENT_ID or (known is not None and "mujoco" in str(known.entry_point)):
        _load_mujoco()
    if robotics:
        gym.register_envs(importlib.import_module("gymnasium_robotics"))
    if environment_id == metaworld.ENVIRONMENT_ID:
        metaworld.register()


def _load_mujoco() -> None:
    try:
        importlib.import_module("mujoco")
    except RENDERER_FAILURES as error:  # the renderer that MUJOCO_GL names is loaded with it
        raise no_renderer(error) from error


def is_registered(environment_id: str) -> bool:
    """Whether `gym.make` knows it by itself, as it does its own environments and those that we know where to find."""
    _register(environment_id)
    return environment_id in gym.registry


def whole_kwargs(environment_id: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that `gym.make` gives the environment, those of its registration too: datasets may name them or not."""
    _register(environment_id)
    registered = gym.registry.get(environment_id)
    return {**(registered.kwargs if registered else {}), **kwargs}


class TaskEnvironment:
    """One environment with flat observations `[O + K]` (state, then task), float32; shifted where a `shift` is given."""

    def __init__(self, config: EnvironmentConfig, render_mode: str | None = None, shift: ShiftConfig = UNSHIFTED) -> None:
        self.config = config
        _register(config.id)
        try:
            kwargs = {**config.kwargs, **({"render_mode": render_mode} if render_mode else {})}
            with warnings.catch_warnings():  # an older version is chosen because the data is from it
                warnings.filterwarnings("ignore", ".*is out of date", DeprecationWarning)
                self.env: gym.Env[Any, Any] = gym.make(
                    config.id, max_episode_steps=config.max_episode_steps, disable_env_checker=True, **kwargs
                )
        except (gym.error.Error, ImportError, TypeError) as error:
            raise UserError(
                f"task.environment {config.id!r} cannot be made ({error}): check its id and kwargs in params.yaml; "
                "of one that a module registers the id is MODULE:NAME, and that module must be found from here"
            ) from error
        shift_environment(self.env, shift, f"task.environment {config.id!r}")
        self.action_space = box_actions(self.env.action_space, f"task.environment {config.id!r}")
        state_dim, goal_dim = space_dims(self.env.observation_space, config.state_keys)
        self.spec = Spec(
            state_dim=state_dim,
            action_dim=int(self.action_space.shape[0]),
            task_dim=goal_dim + len(config.task_id),
            action_low=tuple(self.action_space.low.tolist()),
            action_high=tuple(self.action_space.high.tolist()),
        )

    def reset(self, seed: int) -> tuple[Array, Array]:
        """Begin an episode; returns (state `[O]`, task `[K]`). Raises `NotFinite` where the environment gives NaN or infinity."""
        observation, _ = self.env.reset(seed=seed, options=dict(self.config.reset_options) or None)
        state, task = self._split(observation)
        require_finite("the environment's reset", state=state, task=task)
        return state, task

    def step(self, action: Array) -> tuple[Array, Array, float, bool, bool, bool | None]:
        """Act; returns (next state, task, reward, terminated, truncated, success or None where the environment never says).

        Raises `NotFinite` where the action or the environment's answer has NaN or infinity.
        """
        require_finite("the action", action=action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        state, task = self._split(observation)
        require_finite("the environment's answer", action=action, state=state, task=task, reward=float(reward))
        success = next((bool(info[key]) for key in SUCCESS_KEYS if key in info), None)
        return state, task, float(reward), bool(terminated), bool(truncated), success

    @property
    def identity(self) -> Array:
        """The last entries `[I]` of every task vector, which tell which of several tasks this is; none where there is but one, or each reset draws
        its own."""
        env, task = self.env.unwrapped, self.config.reset_options.get("task")
        among = env.tasks if isinstance(env, metaworld.MetaWorld) and task is not None else ()
        return np.asarray([*(name == task for name in among), *self.config.task_id], np.float32)

    def _split(self, observation: Any) -> tuple[Array, Array]:
        state, task = split_observation(self.env.observation_space, observation, (), self.config.state_keys)
        return state, np.append(task, self.config.task_id).astype(np.float32) if self.config.task_id else task

    def close(self) -> None:
        self.env.close()

    def require_fit(self, spec: Spec, where: str) -> None:
        """Refuse data whose shapes are not this environment's."""
        ours = (self.spec.state_dim, self.spec.action_dim, self.spec.task_dim)
        theirs = (spec.state_dim, spec.action_dim, spec.task_dim)
        if ours != theirs:
            raise UserError(
                f"{where} has (state, action, task) sizes {theirs}, but the environment {self.config.id} has {ours}: "
                "set task.dataset.id or task.environment so that they belong together"
            )


class Oracle:
    """The environment's own reward and termination on states it did not visit: the `oracle` reward arm, and relabelling.

    Raises `UserError` where the environment cannot be asked, or what its goal is compared with is not told.
    """

    def __init__(self, environment: TaskEnvironment) -> None:
        if not self.knows(environment):
            raise UserError(
                "reward 'oracle' needs task.environment.achieved_goal, and a goal environment that has compute_reward and compute_terminated; "
                f"{environment.config.id} offers none: use synthesis.reward generated or learned"
            )
        self._env = cast("Any", environment.env.unwrapped)
        self._goal = list(environment.config.achieved_goal)

    @staticmethod
    def knows(environment: TaskEnvironment) -> bool:
        """Whether it can be asked there; goal environments as hindsight alone needs them only have `compute_reward`."""
        asked = ("compute_reward", "compute_terminated")
        return bool(environment.config.achieved_goal) and all(hasattr(environment.env.unwrapped, name) for name in asked)

    def __call__(self, next_states: Array, task: Array) -> tuple[Array, BoolArray]:
        """Rewards `[T]` and terminations `[T]` of arriving in `next_states [T, O]` under `task [K]`."""
        achieved = next_states[:, self._goal].astype(np.float64)
        desired = np.broadcast_to(task[: len(self._goal)].astype(np.float64), achieved.shape)  # behind the goal may stand a task_id
        rewards = np.asarray(self._env.compute_reward(achieved, desired, {}), np.float32)
        terminated = [bool(self._env.compute_terminated(a, d, {})) for a, d in zip(achieved, desired, strict=True)]
        return rewards, np.asarray(terminated)
