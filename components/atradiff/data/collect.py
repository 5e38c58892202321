"""Local offline data: a scripted controller walks a maze between random cells, and Minari keeps the episodes.

The controller is breadth-first search over the cells and a PD law towards the next cell's centre; noise on its actions gives
the data breadth. Start and goal cells are drawn uniformly, so no task is singled out.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, cast

import gymnasium as gym
import minari
import numpy as np
from annotated_types import Ge, Gt
from minari import MinariDataset
from minari.data_collector import EpisodeBuffer
from typing_extensions import Doc

from atradiff.data.environment import EnvironmentConfig, TaskEnvironment
from atradiff.errors import UserError
from atradiff.trajectory import Array

Cell = tuple[int, int]
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


class MazeController:
    """Walks from any cell to the goal: the shortest way over cells, a PD law between their centres."""

    def __init__(self, environment: TaskEnvironment, config: CollectConfig) -> None:
        self._maze = cast("Any", environment.env.unwrapped).maze
        self._config = config
        self.cells: list[Cell] = [
            (i, j) for i, row in enumerate(self._maze.maze_map) for j, cell in enumerate(row) if cell != 1
        ]
        self._next = {goal: self._towards(goal) for goal in self.cells}
        self._centre = {cell: self._maze.cell_rowcol_to_xy(np.asarray(cell)).tolist() for cell in self.cells}

    def _towards(self, goal: Cell) -> dict[Cell, Cell]:
        """For each cell from which `goal` can be reached, the next one on a shortest way."""
        step: dict[Cell, Cell] = {goal: goal}
        frontier = deque([goal])
        free = set(self.cells)
        while frontier:
            i, j = frontier.popleft()
            for cell in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if cell in free and cell not in step:
                    step[cell] = (i, j)
                    frontier.append(cell)
        return step

    def cells_between(self, start: Cell, goal: Cell) -> float:
        """Cells to walk from `start` to `goal`, the latter counted; infinite where there is no way."""
        if start not in self._next[goal]:
            return math.inf
        count = 0
        while start != goal:
            start, count = self._next[goal][start], count + 1
        return count

    def cell(self, x: float, y: float) -> Cell:
        """The (row, column) of a position."""
        maze = self._maze
        return (
            math.floor((maze.y_map_center - y) / maze.maze_size_scaling),
            math.floor((x + maze.x_map_center) / maze.maze_size_scaling),
        )

    def act(self, state: list[float], goal: list[float], noise: list[float]) -> Array:
        """The action `[2]` in the state (x, y, vx, vy) on the way to the goal (x, y); plain floats, for speed."""
        here = self.cell(state[0], state[1])
        following = self._next[self.cell(goal[0], goal[1])].get(here, here)
        target = goal if following == here else self._centre[following]
        c = self._config
        force = [c.gain * (target[i] - state[i]) - c.damping * state[i + 2] + c.action_noise * noise[i] for i in (0, 1)]
        return np.asarray([min(1.0, max(-1.0, f)) for f in force], np.float32)


def collect_maze(
    dataset_id: str, environment_config: EnvironmentConfig, config: CollectConfig, report: Callable[[int], None]
) -> None:
    """Collect `config.transitions` in a PointMaze and write them as the Minari dataset `dataset_id`; `report` hears the count."""
    environment = TaskEnvironment(EnvironmentConfig(environment_config.id, environment_config.kwargs, {}, environment_config.max_episode_steps))
    if getattr(environment.env.unwrapped, "point_env", None) is None:
        raise UserError(
            f"dataset {dataset_id} is not there and cannot be collected: the scripted controller walks PointMaze only, "
            f"not {environment_config.id}; name a dataset that exists in task.dataset.id"
        )
    generator = np.random.default_rng(config.seed)
    controller = MazeController(environment, config)
    buffers: list[EpisodeBuffer] = []
    count = 0
    while count < config.transitions:
        start, goal = generator.choice(len(controller.cells), size=2, replace=False)
        if config.maximum_cells is not None and controller.cells_between(controller.cells[start], controller.cells[goal]) > config.maximum_cells:
            continue
        options = {"reset_cell": np.asarray(controller.cells[start]), "goal_cell": np.asarray(controller.cells[goal])}
        limit = min(config.transitions - count, config.maximum_steps or config.transitions)
        buffers.append(_episode(environment.env, controller, options, generator, limit))
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
            algorithm_name="breadth-first search with a PD controller",
            description=RECIPE_PREFIX + json.dumps(recipe(environment_config, config)),
        )
    environment.close()


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


def _episode(
    env: gym.Env[Any, Any], controller: MazeController, options: dict[str, Any], generator: np.random.Generator, limit: int
) -> EpisodeBuffer:
    """One episode of at most `limit` steps; where the limit cuts it, it is marked truncated."""
    observation, _ = env.reset(seed=int(generator.integers(2**31)), options=options)
    observations, actions, rewards, terminations, truncations = [observation], [], [], [], []
    while True:
        action = controller.act(
            observation["observation"].tolist(), observation["desired_goal"].tolist(), generator.standard_normal(2).tolist()
        )
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
