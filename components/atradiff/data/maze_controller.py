"""A scripted controller that walks a maze between random cells.

It is breadth-first search over the cells and a PD law towards the next cell's centre; noise on its actions gives the data breadth.
Start and goal cells are drawn uniformly, so no task is singled out.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, cast

import numpy as np

from atradiff.data.collect import CollectConfig, Controller
from atradiff.data.environment import TaskEnvironment
from atradiff.trajectory import Array

Cell = tuple[int, int]


class MazeController(Controller):
    """Walks from any cell to the goal: the shortest way over cells, a PD law between their centres."""

    algorithm = "breadth-first search with a PD controller"

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

    def begin(self, generator: np.random.Generator) -> dict[str, Any]:
        """The options of the next episode's reset: a start and a goal, no farther apart than is allowed."""
        while True:
            start, goal = (self.cells[i] for i in generator.choice(len(self.cells), size=2, replace=False))
            if self._config.maximum_cells is None or self.cells_between(start, goal) <= self._config.maximum_cells:
                return {"reset_cell": np.asarray(start), "goal_cell": np.asarray(goal)}

    def ahead(self, x: float, y: float, goal: tuple[float, float]) -> tuple[float, float]:
        """Where to go next from (x, y): the centre of the next cell on a shortest way, or the goal where it is in this cell."""
        here = self.cell(x, y)
        following = self._next[self.cell(*goal)].get(here, here)
        return goal if following == here else self._centre[following]

    def act(self, observation: Any, generator: np.random.Generator) -> Array:
        """The action `[2]` in the state (x, y, vx, vy) on the way to the goal (x, y); plain floats, for speed."""
        state, goal = observation["observation"].tolist(), observation["desired_goal"].tolist()
        noise = generator.standard_normal(2).tolist()
        target = self.ahead(state[0], state[1], goal)
        c = self._config
        force = [c.gain * (target[i] - state[i]) - c.damping * state[i + 2] + c.action_noise * noise[i] for i in (0, 1)]
        return np.asarray([min(1.0, max(-1.0, f)) for f in force], np.float32)
