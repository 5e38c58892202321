"""Collecting in a real PointMaze, and the simulator that can be put into a state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import toys
from atradiff.data.collect import CollectConfig, MazeController, collect_maze
from atradiff.data.convert import convert, dataset_fingerprint, open_dataset
from atradiff.data.environment import EnvironmentConfig, TaskEnvironment
from atradiff.data.simulator import find_maze, find_simulator
from atradiff.data.store import OfflineData
from atradiff.errors import UserError

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
        collect_maze("toys/umaze-v0", UMAZE, CollectConfig(transitions=TRANSITIONS, seed=3), heard.append)
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


def test_only_point_mazes_are_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(UserError, match="the scripted controller walks PointMaze only, not toys/Reach-v0"):
        collect_maze("toys/reach-v0", toys.REACH, CollectConfig(transitions=100), lambda n: None)


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
