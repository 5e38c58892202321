"""Controllers of a chosen quality: whom nobody taught, and scripted ones that act at random for a share of their steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from atradiff.data.ant_controller import AntController
from atradiff.data.collect import CollectConfig, Controller
from atradiff.data.environment import TaskEnvironment
from atradiff.data.maze_controller import MazeController
from atradiff.data.metaworld import MetaWorld
from atradiff.data.metaworld_controller import MetaWorldController
from atradiff.trajectory import Array

MEDIUM = 0.5
"""Share of a medium controller's actions that are random."""


class RandomController(Controller):
    """Uniform actions; episodes begin as the environment likes."""

    algorithm = "uniformly random actions"

    def __init__(self, environment: TaskEnvironment) -> None:
        self._space = environment.action_space

    def act(self, observation: Any, generator: np.random.Generator) -> Array:
        """An action `[A]`, whatever is observed."""
        del observation
        return generator.uniform(self._space.low, self._space.high).astype(np.float32)


class LessSkilled(Controller):
    """A controller that draws a share of its actions at random, from `first` of them at the beginning to `last` after so many `steps`."""

    def __init__(self, skilled: Controller, environment: TaskEnvironment, first: float, last: float, steps: int) -> None:
        share = f"{first:.0%}" if first == last else f"{first:.0%} to {last:.0%}"
        self.algorithm = f"{skilled.algorithm}, and {share} random actions"
        self._skilled = skilled
        self._random = RandomController(environment)
        self._first, self._last, self._steps = first, last, steps
        self._acted = 0

    def begin(self, generator: np.random.Generator) -> dict[str, Any]:
        """As the skilled one does."""
        return self._skilled.begin(generator)

    def act(self, observation: Any, generator: np.random.Generator) -> Array:
        """The controller's action `[A]` or a random one."""
        share = self._first + (self._last - self._first) * self._acted / self._steps
        self._acted += 1
        action = self._skilled.act(observation, generator)  # asked in any case: it may count its steps
        return self._random.act(observation, generator) if generator.random() < share else action


def scripted_controller(environment: TaskEnvironment, config: CollectConfig) -> Controller | None:
    """The controller of the quality asked for that knows its way in this environment; None where there is no such script."""
    skilled = _skilled(environment, config)
    if skilled is None:
        return RandomController(environment) if config.quality == "random" else None
    match config.quality:
        case "noisy" | "expert":
            return skilled
        case "random":
            return LessSkilled(skilled, environment, 1.0, 1.0, config.transitions)
        case "medium":
            return LessSkilled(skilled, environment, MEDIUM, MEDIUM, config.transitions)
        case "medium-replay":
            return LessSkilled(skilled, environment, 1.0, MEDIUM, config.transitions)


def _skilled(environment: TaskEnvironment, config: CollectConfig) -> Controller | None:
    simulation = environment.env.unwrapped
    if getattr(simulation, "point_env", None) is not None:
        return MazeController(environment, config)
    if getattr(simulation, "ant_env", None) is not None:
        return AntController(environment, config)
    if isinstance(simulation, MetaWorld):
        return MetaWorldController(environment, config)
    return None
