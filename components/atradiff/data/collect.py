"""Local offline data: a scripted controller acts in the environment, and Minari keeps the episodes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Protocol, cast

import gymnasium as gym
import minari
import numpy as np
from annotated_types import Ge, Gt
from minari import MinariDataset
from minari.data_collector import EpisodeBuffer
from typing_extensions import Doc

from atradiff.data.environment import EnvironmentConfig, TaskEnvironment
from atradiff.data.maze_controller import MazeController
from atradiff.data.metaworld import MetaWorld
from atradiff.data.metaworld_controller import MetaWorldController
from atradiff.errors import UserError
from atradiff.trajectory import Array

RECIPE_PREFIX = "Collected by atradiff with this recipe: "


@dataclass(frozen=True)
class CollectConfig:
    """How local data is made where task.dataset.id names a dataset that is not there yet."""

    transitions: Annotated[int, Ge(100), Doc("Transitions to collect.")] = 200_000
    maximum_cells: Annotated[int | None, Ge(1), Doc("Cells from an episode's start to its goal at most; null is any number.")] = None
    maximum_steps: Annotated[int | None, Ge(1), Doc("Transitions of an episode at most; null leaves it to the environment.")] = None
    action_noise: Annotated[float, Ge(0), Doc("Standard deviation of the Gaussian noise on the controller's actions.")] = 0.5
    gain: Annotated[float, Gt(0), Doc("Proportional gain of the controller towards the next cell's centre.")] = 10.0
    damping: Annotated[float, Ge(0), Doc("Damping of the controller on the velocity.")] = 1.0
    seed: Annotated[int, Ge(0), Doc("Seed of starts, goals and noise.")] = 0


class Controller(Protocol):
    """A scripted controller: what the next episode begins with, and how it goes on."""

    algorithm: str

    def begin(self, generator: np.random.Generator) -> dict[str, Any]:
        """The options of the next episode's reset."""
        ...

    def act(self, observation: Any, generator: np.random.Generator) -> Array:
        """The action `[A]` on an observation of the environment's own."""
        ...


def collect(dataset_id: str, environment_config: EnvironmentConfig, config: CollectConfig, report: Callable[[int], None]) -> None:
    """Collect `config.transitions` and write them as the Minari dataset `dataset_id`; `report` hears the count."""
    environment = TaskEnvironment(EnvironmentConfig(environment_config.id, environment_config.kwargs, {}, environment_config.max_episode_steps))
    controller = _controller(environment, config, dataset_id)
    generator = np.random.default_rng(config.seed)
    buffers: list[EpisodeBuffer] = []
    count = 0
    while count < config.transitions:
        limit = min(config.transitions - count, config.maximum_steps or config.transitions)
        buffers.append(_episode(environment.env, controller, generator, limit))
        count += len(buffers[-1])
        report(count)
    with warnings.catch_warnings():  # the data stays on this machine: there is nobody to write to and no page to link
        warnings.filterwarnings("ignore", "`(author_email|code_permalink)` is set to None", UserWarning)
        minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            env=environment.env,
            eval_env=environment.env,
            author="atradiff",
            algorithm_name=controller.algorithm,
            description=RECIPE_PREFIX + json.dumps(recipe(environment_config, config)),
        )
    environment.close()


def _controller(environment: TaskEnvironment, config: CollectConfig, dataset_id: str) -> Controller:
    """The controller that knows its way in this environment."""
    if getattr(environment.env.unwrapped, "point_env", None) is not None:
        return MazeController(environment, config)
    if isinstance(environment.env.unwrapped, MetaWorld):
        return MetaWorldController(environment, config)
    raise UserError(
        f"dataset {dataset_id} is not there and cannot be collected: scripted controllers act in PointMaze and Meta-World only, "
        f"not {environment.config.id}; name a dataset that exists in task.dataset.id"
    )


def recipe(environment_config: EnvironmentConfig, config: CollectConfig) -> dict[str, Any]:
    """All that decides the content of a collected dataset, as plain values."""
    environment = {name: getattr(environment_config, name) for name in ("id", "kwargs", "max_episode_steps")}
    chosen = {name: value for name, value in asdict(config).items() if value is not None}
    return json.loads(json.dumps({"environment": environment, **chosen}))


def read_recipe(dataset: MinariDataset) -> dict[str, Any] | None:
    """The recipe that a dataset was collected with here; None for a dataset that comes from elsewhere."""
    description = str(dataset.storage.metadata.get("description", ""))
    if not description.startswith(RECIPE_PREFIX):
        return None
    return json.loads(description.removeprefix(RECIPE_PREFIX))


def _episode(env: gym.Env[Any, Any], controller: Controller, generator: np.random.Generator, limit: int) -> EpisodeBuffer:
    """One episode of at most `limit` steps; where the limit cuts it, it is marked truncated."""
    options = controller.begin(generator)
    observation, _ = env.reset(seed=int(generator.integers(2**31)), options=options)
    observations, actions, rewards, terminations, truncations = [observation], [], [], [], []
    while True:
        action = controller.act(observation, generator)
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(float(reward))
        terminations.append(terminated)
        truncations.append(truncated or (len(actions) == limit and not terminated))
        if terminated or truncations[-1]:
            stacked = {key: np.stack([o[key] for o in observations]) for key in observation}
            return EpisodeBuffer(
                observations=stacked, actions=cast("Any", np.stack(actions)), rewards=rewards, terminations=terminations, truncations=truncations
            )
