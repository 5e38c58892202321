"""Collecting in a real PointMaze, and the simulator that can be put into a state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atradiff.data.collect import CollectConfig, recipe
from atradiff.data.convert import convert, dataset_fingerprint, open_dataset
from atradiff.data.environment import EnvironmentConfig, TaskEnvironment
from atradiff.data.maze_controller import MazeController
from atradiff.data.simulator import find_maze, find_simulator
from atradiff.data.store import OfflineData
from recorded import make

# Minari asks for an author, a permalink and the like.
pytestmark = pytest.mark.filterwarnings("ignore:.* is set to None.*:UserWarning")

UMAZE = EnvironmentConfig("PointMaze_UMaze-v3", {"continuing_task": False}, {}, 300, (0, 1))
TRANSITIONS = 1_500


@pytest.fixture(scope="module")
def maze_environment() -> TaskEnvironment:
    return TaskEnvironment(UMAZE)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[OfflineData, str, list[int]]:
    heard: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        make("toys/umaze-v0", UMAZE, CollectConfig(transitions=TRANSITIONS, seed=3), lambda n, note: heard.append(n))
        dataset = open_dataset("toys/umaze-v0")
        return convert(dataset, lambda n: None), dataset_fingerprint(dataset), heard


def test_exactly_as_many_transitions_as_asked_for(collected: tuple[OfflineData, str, list[int]]) -> None:
    data, _, heard = collected
    assert data.num_transitions == TRANSITIONS
    assert heard == np.cumsum(data.episode_lengths).tolist()


def test_the_controller_arrives(collected: tuple[OfflineData, str, list[int]]) -> None:
    """Every episode that was not cut short ends at its goal, with the one reward there."""
    data, _, _ = collected
    assert data.num_episodes > 5
    assert data.episode_terminated[:-1].all()
    for trajectory in list(data.trajectories())[:-1]:
        assert trajectory.rewards.tolist() == [0.0] * (len(trajectory) - 1) + [1.0]
        assert np.linalg.norm(trajectory.states[-1, :2] - trajectory.task) <= 0.45
    assert data.spec.reward_values == (0.0, 1.0)


def test_goals_are_all_over_the_maze(collected: tuple[OfflineData, str, list[int]]) -> None:
    data, _, _ = collected
    assert len({tuple(np.round(task)) for task in data.tasks}) >= 4


def test_the_environment_can_be_told_where_to_begin(maze_environment: TaskEnvironment) -> None:
    from dataclasses import replace

    environment = TaskEnvironment(replace(UMAZE, reset_options={"reset_cell": np.asarray([1, 1]), "goal_cell": np.asarray([3, 1])}))
    state, task = environment.reset(0)
    assert np.abs(state[:2] - [-1, 1]).max() <= 0.25
    assert np.abs(task - [-1, -1]).max() <= 0.25


def test_controller_walks_shortest_ways(maze_environment: TaskEnvironment) -> None:
    """From each cell, following the next cell arrives at the goal through free neighbours only; UMaze's ways are unique."""
    controller = MazeController(maze_environment, CollectConfig())
    assert len(controller.cells) == 7
    for goal in controller.cells:
        towards = controller._next[goal]
        for cell in controller.cells:
            path = [cell]
            while path[-1] != goal:
                following = towards[path[-1]]
                assert abs(following[0] - path[-1][0]) + abs(following[1] - path[-1][1]) == 1
                path.append(following)
            assert len(path) <= 7
            assert set(path) <= set(controller.cells)
        x, y = controller._centre[goal]
        assert controller.cell(x, y) == goal


def test_cells_between_are_those_to_walk(maze_environment: TaskEnvironment) -> None:
    """Along the U its cells are numbered, so that the difference is the distance."""
    controller = MazeController(maze_environment, CollectConfig())
    u = [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)]
    assert [[controller.cells_between(a, b) for b in u] for a in u] == [[abs(i - j) for j in range(7)] for i in range(7)]


def test_cells_that_nothing_connects_are_infinitely_far() -> None:
    rooms = [[1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1, 1]]
    environment = TaskEnvironment(EnvironmentConfig("PointMaze_UMaze-v3", {"continuing_task": False, "maze_map": rooms}, {}, 300, (0, 1)))
    controller = MazeController(environment, CollectConfig())
    assert [controller.cells_between((1, 1), (1, j)) for j in (1, 2, 4, 5)] == [0, 1, float("inf"), float("inf")]
    environment.close()


@pytest.mark.parametrize(("cells", "steps"), [(1, None), (2, 9), (None, 9)])
def test_episodes_are_no_longer_than_was_asked(
    cells: int | None, steps: int | None, maze_environment: TaskEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in cells from start to goal nor in transitions; what the limit cut is not terminated, and the count is met all the same."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    make("toys/short-v0", UMAZE, CollectConfig(200, maximum_cells=cells, maximum_steps=steps))
    data = convert(open_dataset("toys/short-v0"), lambda n: None)
    controller = MazeController(maze_environment, CollectConfig())
    walked = [controller.cells_between(controller.cell(*t.states[0, :2]), controller.cell(*t.task)) for t in data.trajectories()]
    assert data.num_transitions == 200
    assert data.num_episodes > 3
    assert max(walked) == cells if cells else max(walked) > 2
    assert max(data.episode_lengths) == steps if steps else max(data.episode_lengths) > 9
    for trajectory in list(data.trajectories())[:-1]:
        assert trajectory.terminated or len(trajectory) == steps


def test_a_recipe_names_only_the_limits_that_there_are() -> None:
    """So a dataset that was collected before there were any has the recipe that it would have today."""
    plain = recipe(UMAZE, CollectConfig())
    assert set(plain) == {"environment", "transitions", "action_noise", "gain", "damping", "seed"}
    assert recipe(UMAZE, CollectConfig(maximum_cells=3)) == {**plain, "maximum_cells": 3}
    assert recipe(UMAZE, CollectConfig(maximum_steps=9)) == {**plain, "maximum_steps": 9}


def test_simulator_repeats_real_steps(collected: tuple[OfflineData, str, list[int]], maze_environment: TaskEnvironment) -> None:
    data, _, _ = collected
    simulator = find_simulator(maze_environment)
    assert simulator is not None
    trajectory = data.trajectory(0)
    assert np.allclose(simulator.step(trajectory.states[:-1], trajectory.actions), trajectory.states[1:], atol=1e-4)


def test_walls(collected: tuple[OfflineData, str, list[int]], maze_environment: TaskEnvironment, reach: TaskEnvironment) -> None:
    """Real positions are in no wall; the wall between the arms of the U, and whatever is outside, is."""
    data, _, _ = collected
    maze = find_maze(maze_environment)
    assert maze is not None
    assert maze.extent == (-2.5, 2.5, -2.5, 2.5)
    assert not maze.inside_wall(data.states[:, :2]).any()
    assert maze.inside_wall(np.float32([[0, 0], [-1, 0], [-2, 1], [9, 0], [0, -9]])).all()
    assert not maze.inside_wall(np.float32([[-1, 1], [1, 0], [-1, -1]])).any()
    assert find_maze(reach) is None
    assert find_simulator(reach) is None
