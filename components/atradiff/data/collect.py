"""Local offline data: a controller acts in the environment, and Minari keeps the episodes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, cast

import gymnasium as gym
import numpy as np
from annotated_types import Ge, Gt
from minari import MinariDataset
from minari.data_collector import EpisodeBuffer
from typing_extensions import Doc

from atradiff.data.environment import EnvironmentConfig, TaskEnvironment
from atradiff.data.record import COLLECTED, read_note, stack, write_dataset
from atradiff.trajectory import Array

Report = Callable[[int, str], None]
"""Hears how many transitions there are, and `LatestReturns`."""
Quality = Literal["noisy", "random", "medium", "medium-replay", "expert"]
QUALITY_DOC = "How well whoever collects does: noisy is a scripted controller with action_noise; see docs/data.md for the others."


@dataclass(frozen=True)
class CollectConfig:
    """How local data is made where task.dataset.id names a dataset that is not there yet."""

    transitions: Annotated[int, Ge(100), Doc("Transitions to collect.")] = 200_000
    maximum_cells: Annotated[int | None, Ge(1), Doc("Cells from an episode's start to its goal at most; null is any number.")] = None
    maximum_steps: Annotated[int | None, Ge(1), Doc("Transitions of an episode at most; null leaves it to the environment.")] = None
    quality: Annotated[Quality, Doc(QUALITY_DOC)] = "noisy"
    training_steps: Annotated[int | None, Ge(1), Doc("Env steps for which an agent learns before it collects, where no controller is scripted.")] = None
    action_noise: Annotated[float, Ge(0), Doc("Standard deviation of the Gaussian noise on the controller's actions.")] = 0.5
    gain: Annotated[float, Gt(0), Doc("Proportional gain of the controller towards the next cell's centre.")] = 10.0
    damping: Annotated[float, Ge(0), Doc("Damping of the controller on the velocity.")] = 1.0
    seed: Annotated[int, Ge(0), Doc("Seed of starts, goals and noise.")] = 0


class Controller:
    """Whoever acts while data is collected."""

    algorithm: str
    """Who that is, in words; stands in the dataset."""

    def begin(self, generator: np.random.Generator) -> dict[str, Any]:
        """The options of the next episode's reset."""
        del generator
        return {}

    def act(self, observation: Any, generator: np.random.Generator) -> Array:
        """The action `[A]` on an observation of the environment's own."""
        raise NotImplementedError

    def experience(self, observation: Any, reward: float, *, terminated: bool, truncated: bool) -> None:
        """Hears what came of the last action, in case it learns."""


def collect(dataset_id: str, environment: TaskEnvironment, controller: Controller, config: CollectConfig, report: Report) -> None:
    """Collect `config.transitions` and write them as the Minari dataset `dataset_id`."""
    generator = np.random.default_rng(config.seed)
    buffers: list[EpisodeBuffer] = []
    count, latest = 0, LatestReturns()
    while count < config.transitions:
        limit = min(config.transitions - count, config.maximum_steps or config.transitions)
        buffers.append(play_episode(environment.env, controller, generator, limit))
        count += len(buffers[-1])
        report(count, latest.add(buffers[-1]))
    write_dataset(dataset_id, buffers, environment, controller.algorithm, COLLECTED, recipe(environment.config, config))


def collecting_environment(config: EnvironmentConfig) -> TaskEnvironment:
    """The environment as data is collected in it: with no start or goal singled out."""
    return TaskEnvironment(replace(config, reset_options={}, task_id=()))


def recipe(environment_config: EnvironmentConfig, config: CollectConfig) -> dict[str, Any]:
    """All that decides the content of a collected dataset, as plain values; what is not there, or noisy as ever, is left out."""
    environment = {name: getattr(environment_config, name) for name in ("id", "kwargs", "max_episode_steps")}
    chosen = {name: value for name, value in asdict(config).items() if value is not None and (name, value) != ("quality", "noisy")}
    return json.loads(json.dumps({"environment": environment, **chosen}))


def read_recipe(dataset: MinariDataset) -> dict[str, Any] | None:
    """The recipe that a dataset was collected with here; None for a dataset that comes from elsewhere."""
    return read_note(dataset, COLLECTED)


class LatestReturns:
    """The mean return of the last ten episodes, in words."""

    def __init__(self) -> None:
        self._returns: deque[float] = deque(maxlen=10)

    def add(self, episode: EpisodeBuffer) -> str:
        """That with one more episode."""
        self._returns.append(float(sum(episode.rewards)))
        return f"return {np.mean(self._returns):.4g}"


def play_episode(env: gym.Env[Any, Any], controller: Controller, generator: np.random.Generator, limit: int) -> EpisodeBuffer:
    """One episode of at most `limit` steps; where the limit cuts it, it is marked truncated."""
    options = controller.begin(generator) or None
    observation, _ = env.reset(seed=int(generator.integers(2**31)), options=options)
    observations, actions, rewards, terminations, truncations = [observation], [], [], [], []
    while True:
        action = controller.act(observation, generator).astype(env.action_space.dtype)
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(float(reward))
        terminations.append(bool(terminated))
        truncations.append(bool(truncated or (len(actions) == limit and not terminated)))
        controller.experience(observation, rewards[-1], terminated=terminations[-1], truncated=truncations[-1])
        if terminated or truncations[-1]:
            return EpisodeBuffer(
                observations=stack(observations),
                actions=cast("Any", np.stack(actions)),
                rewards=rewards,
                terminations=terminations,
                truncations=truncations,
            )
