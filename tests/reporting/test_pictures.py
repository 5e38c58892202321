from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from atradiff.data.simulator import Maze
from atradiff.online.distance import Distances
from atradiff.reporting.pictures import Outcome, compared_variants, imagined_over_maze, learning_curves, legend_columns, loss_curve
from atradiff.reporting.run_pictures import Lengths, draw_distances, draw_lengths, draw_sources, draw_times
from atradiff.reporting.style import figure_at, thousands_axis
from atradiff.reporting.summary import TIMES
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
    return [{"env_steps": 100 * i, "eval/success_rate": value, "eval/return": float(i), "time/seconds": 2.0 * i} for i, value in enumerate(success)]


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


@pytest.mark.parametrize("evaluations", [1, 3])
def test_variants_that_agree_are_all_seen_beside_one_another(tmp_path: Path, evaluations: int) -> None:
    steps, level = np.arange(evaluations) * 500.0, np.ones(evaluations)
    same = Outcome(steps, (level, level, level), (0.0, 0.0, 0.0), np.zeros(8))
    labels = [f"variant {number}" for number in range(10)]
    compared_variants(tmp_path / "study.svg", {"task-a": dict.fromkeys(labels, same), "task-b": {labels[0]: same}})
    text = (tmp_path / "study.svg").read_text()
    assert all(f"<!-- {label} -->" in text for label in [*labels, "task-a", "task-b"])
    points = re.findall(r'<use xlink:href="#\w+" x="([\d.]+)" y="([\d.]+)"', text)
    top = min(float(y) for _, y in points)
    assert len({x for x, y in points if float(y) == top}) >= (len(labels) + 1) * evaluations


def test_tasks_go_on_below_where_a_page_has_no_more_room(tmp_path: Path) -> None:
    level = np.ones(2)
    one = {"atradiff": Outcome(np.asarray([0.0, 500.0]), (level, level, level), (0.0, 0.0, 0.0), np.zeros(3))}
    sizes = {}
    for number in (3, 4, 6):
        compared_variants(tmp_path / "study.svg", {f"task-{task}": one for task in range(number)})
        text = (tmp_path / "study.svg").read_text()
        assert all(f"<!-- task-{task} -->" in text for task in range(number))
        sizes[number] = [float(inches) for inches in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)[0]]
    assert sizes[4] == sizes[6] == [sizes[3][0], 2 * sizes[3][1]]


@pytest.mark.parametrize("label", ["rlpd", "atradiff (mean of 8)", "atradiff, online.evaluation_episodes=10, and 12 more"])
def test_a_legend_is_not_cut_off_at_the_sides(tmp_path: Path, label: str) -> None:
    labels = [f"{label} {number}" for number in range(5)]
    with figure_at(tmp_path / "legend.png", 9.2, 3.8) as figure:
        lines = [figure.add_subplot().plot([0, 1], label=each)[0] for each in labels]
        legend = figure.legend(lines, labels, loc="outside lower center", ncols=legend_columns(labels, 9.2))
        figure.draw_without_rendering()
        assert 0 <= legend.get_window_extent().x0 < legend.get_window_extent().x1 <= figure.bbox.width


@pytest.mark.parametrize("end", [0.8, 3, 12.4, 4_000])
def test_an_axis_of_whole_numbers_has_its_ticks_where_their_labels_say(tmp_path: Path, end: float) -> None:
    with figure_at(tmp_path / "axis.png", 4.6, 3.8) as figure:
        axes = figure.add_subplot()
        axes.plot([0, end], [0, 1])
        thousands_axis(axes, 6)
        figure.draw_without_rendering()
        assert [float(label.get_text().replace(",", "")) for label in axes.get_xticklabels()] == list(axes.get_xticks())


@pytest.mark.parametrize("maze", [MAZE, None])
@pytest.mark.parametrize(("imagined", "real"), [([1, 40], [7]), ([3], []), ([], [3])])
def test_trajectories_are_drawn_over_a_maze_or_projected(tmp_path: Path, maze: Maze | None, imagined: list[int], real: list[int]) -> None:
    path = tmp_path / "ways.svg"
    imagined_over_maze(path, [trajectory(n) for n in imagined], [trajectory(n) for n in real], maze, removed=[trajectory(4).states])
    assert ("removed by the pruner" in path.read_text()) == bool(imagined)


def test_a_state_of_one_entry_and_no_goal_is_projected_too(tmp_path: Path) -> None:
    imagined_over_maze(tmp_path / "line.svg", [trajectory(5, state_dim=1, task_dim=0)], [], None)
    assert (tmp_path / "line.svg").exists()


@pytest.mark.parametrize("count", [1, 3])
def test_distances_are_drawn(tmp_path: Path, count: int) -> None:
    draw_distances(tmp_path / "distances.svg", [Distances(100 * i, 1.0, 0.5) for i in range(count)])
    assert (tmp_path / "distances.svg").read_text().startswith("<?xml")


def watched(env_steps: int, imagined_error: float | None) -> dict[str, float | None]:
    timers = {f"time/{name}_seconds": 0.01 * env_steps for name in TIMES}
    told = {"replay/synthetic_share": 0.5, "critic/error_online": 0.1, "critic/error_imagined": imagined_error}
    return {"env_steps": env_steps, "time/seconds": 0.1 * env_steps, **told, **timers}


@pytest.mark.parametrize(("error", "sources"), [(0.2, ["real (D_o)", "imagined (D_s)"]), (None, ["real (D_o)"])])
def test_the_sources_that_have_an_error_are_drawn(tmp_path: Path, error: float | None, sources: list[str]) -> None:
    draw_sources(tmp_path / "sources.svg", [watched(0, None), watched(100, error)], 0.8)
    assert [name for name in ("real (D_o)", "imagined (D_s)") if name in (tmp_path / "sources.svg").read_text()] == sources


@pytest.mark.parametrize(("error", "numbers"), [(0.07, ["0.07", "0.08", "0.09", "0.1"]), (0.001, [])])
def test_errors_within_a_power_of_ten_have_their_own_ticks(tmp_path: Path, error: float, numbers: list[str]) -> None:
    draw_sources(tmp_path / "sources.svg", [watched(0, None), watched(100, error)], 0.8)
    assert re.findall(r"<!-- (0\.\d+) -->", (tmp_path / "sources.svg").read_text()) == numbers


@pytest.mark.parametrize("cut_short", [False, True])
def test_lengths_are_drawn_with_those_that_are_only_known_in_part(tmp_path: Path, cut_short: bool) -> None:
    lengths = Lengths(np.asarray([9.0, 4.0]), np.asarray([[5.0, 8.0, 12.0], [1.0, 4.0, 5.0]]), np.asarray([cut_short, False]))
    draw_lengths(tmp_path / "lengths.svg", lengths)
    assert ("cut short" in (tmp_path / "lengths.svg").read_text()) == cut_short


@pytest.mark.parametrize("evaluations", [1, 3])
def test_times_are_drawn_with_every_part(tmp_path: Path, evaluations: int) -> None:
    draw_times(tmp_path / "times.svg", [watched(100 * i, 0.2) for i in range(evaluations)])
    text = (tmp_path / "times.svg").read_text()
    assert all(label in text for label in (*TIMES.values(), "the rest"))
