from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atradiff.data.simulator import Maze
from atradiff.online.distance import Distances
from atradiff.reporting.pictures import adaptation_distances, imagined_over_maze, learning_curves, loss_curve
from atradiff.trajectory import Trajectory

MAZE = Maze(np.asarray([[True, True, True], [True, False, True], [True, True, True]]), 1.0)


def trajectory(steps: int, state_dim: int = 4, task_dim: int = 2) -> Trajectory:
    random = np.random.default_rng(steps)
    return Trajectory(
        random.normal(size=(steps + 1, state_dim)).astype(np.float32),
        random.normal(size=(steps, 2)).astype(np.float32),
        np.zeros(steps, np.float32),
        random.normal(size=task_dim).astype(np.float32),
        terminated=False,
        truncated=True,
    )


def rows(success: list[float | None]) -> list[dict[str, float | None]]:
    return [{"env_steps": 100 * i, "eval/success_rate": value, "eval/return": float(i)} for i, value in enumerate(success)]


@pytest.mark.parametrize("losses", [[1.0], [0.5, -0.1, 0.0], np.geomspace(1, 0.01, 2_000).tolist()])
def test_a_loss_is_drawn_whatever_its_length_and_sign(tmp_path: Path, losses: list[float]) -> None:
    loss_curve(tmp_path / "loss.svg", losses, "Denoiser")
    assert (tmp_path / "loss.svg").read_text().startswith("<?xml")


def test_the_same_picture_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        loss_curve(tmp_path / f"{name}.svg", [1.0, 0.5, 0.25], "Denoiser")
        imagined_over_maze(tmp_path / f"{name}-maze.svg", [trajectory(5)], [trajectory(3)], MAZE)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a-maze.svg").read_bytes() == (tmp_path / "b-maze.svg").read_bytes()


@pytest.mark.parametrize("success", [[0.0, 0.5, 1.0], [None, None], [0.3]])
def test_learning_curves_show_success_or_else_the_return(tmp_path: Path, success: list[float | None]) -> None:
    learning_curves(tmp_path / "new" / "curves.png", {"atradiff": [rows(success), rows(success)], "agent": [rows(success)]})
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("maze", [MAZE, None])
@pytest.mark.parametrize(("imagined", "real"), [([1, 40], [7]), ([3], []), ([], [3])])
def test_trajectories_are_drawn_over_a_maze_or_projected(tmp_path: Path, maze: Maze | None, imagined: list[int], real: list[int]) -> None:
    path = tmp_path / "ways.svg"
    imagined_over_maze(path, [trajectory(n) for n in imagined], [trajectory(n) for n in real], maze)
    assert path.exists()


def test_a_state_of_one_entry_and_no_goal_is_projected_too(tmp_path: Path) -> None:
    imagined_over_maze(tmp_path / "line.svg", [trajectory(5, state_dim=1, task_dim=0)], [], None)
    assert (tmp_path / "line.svg").exists()


@pytest.mark.parametrize("count", [1, 3])
def test_distances_are_drawn(tmp_path: Path, count: int) -> None:
    adaptation_distances(tmp_path / "distances.svg", [Distances(100 * i, 1.0, 0.5) for i in range(count)])
    assert (tmp_path / "distances.svg").read_text().startswith("<?xml")
