"""Ways over landmarks against ways counted by hand, on lines, graphs and a U whose arms no episode connects."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import toys
from atradiff.data.store import OfflineData, pack_rows, stack_trajectories
from atradiff.synthesis.waypoints import WaypointConfig, Waypoints, spread
from atradiff.trajectory import Array, Trajectory

RADIUS = 0.3
FAR = np.inf
U = np.float32([*((x, 1) for x in range(9)), (8, 0), *((x, -1) for x in range(8, -1, -1))])
"""Along the upper arm, through the bend, back along the lower arm: the first and the last are two apart, and eighteen steps."""


def data_of(*walks: list[tuple[float, float]]) -> OfflineData:
    """Episodes that were at these points, one after the other."""
    points = (np.float32(walk) for walk in walks)
    return stack_trajectories([Trajectory(p, 0 * p[1:], 0 * p[1:, 0], p[-1], True, False) for p in points], toys.SPEC)


def waypoints_of(data: OfflineData, reach: int, landmarks: int = 64, radius: float = RADIUS) -> Waypoints:
    return Waypoints(data, (0, 1), radius, WaypointConfig(reach, landmarks))


def slices(points: Array, length: int) -> OfflineData:
    """Every stretch of so many points, walked forwards and backwards."""
    stretches = [points[i : i + length] for i in range(len(points) - length + 1)]
    return data_of(*(list(stretch[::way]) for stretch in stretches for way in (1, -1)))


def steps(waypoints: Waypoints, state: Array, task: Array) -> float:
    return float(waypoints.steps(state[None], task[None])[0])


def follow(waypoints: Waypoints, state: Array, task: Array) -> list[Array]:
    """The goals that one aims at who always arrives, the task's own last."""
    aims = [state]
    for _ in range(100):
        (aim,), (final,) = waypoints(aims[-1][None], task[None])
        aims.append(aim)
        if final:
            return aims[1:]
    raise AssertionError("the way has no end")


def line(*xs: float) -> list[tuple[float, float]]:
    return [(x, 0.0) for x in xs]


def test_lengths_of_ways_along_a_line() -> None:
    """Steps from entering a place to entering the next, the mean over the episodes that did."""
    waypoints = waypoints_of(data_of(line(0, 1), line(1, 1, 1, 2), line(1, 2), line(2, 3, 3)), reach=1)
    at = np.float32(line(0, 1, 2, 3))
    for i, expected in enumerate(([0, 1, 3, 4], [0, 2, 3], [0, 1], [0])):
        assert waypoints.steps(np.tile(at[i], (4 - i, 1)), at[i:]).tolist() == expected


def test_ways_lead_only_where_somebody_went() -> None:
    """A line that was walked forwards only has no way back, and two lines side by side none across: neither the end of one episode and
    the start of the next, nor nearness, is a link. Then one aims at the task's own goal."""
    other = [(x, 0.4) for x in range(6, 12)]
    waypoints = waypoints_of(data_of(line(*range(7)), line(*range(7)), other), reach=1, radius=0.1)
    starts, goals = np.float32([[0, 0], [6, 0], [0, 0]]), np.float32([[6, 0], [0, 0], [11, 0.4]])
    assert waypoints.steps(starts, goals).tolist() == [6, FAR, FAR]
    aims, final = waypoints(starts, goals)
    assert np.allclose(aims, [[1, 0], *goals[1:]])
    assert final.tolist() == [False, True, True]


@pytest.mark.parametrize("reach", [1, 2, 3, 7, 18, 40])
def test_a_way_around_a_u_is_stitched_from_episodes_of_three_steps(reach: int) -> None:
    waypoints = waypoints_of(slices(U, 4), reach)
    assert [steps(waypoints, U[0], goal) for goal in U] == list(range(19))
    assert [steps(waypoints, U[-1], goal) for goal in U] == list(range(18, -1, -1))
    assert np.allclose(follow(waypoints, U[0], U[-1]), [*U[reach:-1:reach], U[-1]])


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=6), min_size=1, max_size=12), st.integers(1, 8), st.tuples(*[st.integers(0, 6)] * 2)
)
def test_ways_are_the_shortest_over_the_steps_that_episodes_took(walks: list[list[int]], reach: int, ends: tuple[int, int]) -> None:
    """And who follows them from anywhere gets there, goal by goal, each within reach unless it is the very next place on the way."""
    links, shortest = tables(walks)
    assume({*ends} <= {place for walk in walks for place in walk} and shortest[ends] < FAR)
    waypoints = waypoints_of(data_of(*(line(*walk) for walk in walks)), reach)
    start, task = np.float32(line(*ends))
    assert steps(waypoints, start, task) == pytest.approx(shortest[ends])
    aims = [start, *follow(waypoints, start, task)]
    assert np.array_equal(aims[-1], task)
    places = [round(float(aim[0])) for aim in aims]
    for here, then in pairwise(places):
        assert shortest[here, then] <= reach + 1e-6 or shortest[here, then] == pytest.approx(links[here, then])
    assert sum(shortest[pair] for pair in pairwise(places)) == pytest.approx(shortest[ends])


def tables(walks: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean steps of the links `[7, 7]` and of the shortest ways over them (Floyd and Warshall), both infinite where there is none."""
    taken: dict[tuple[int, int], list[int]] = {}
    for walk in walks:
        entered = [i for i in range(len(walk)) if i == 0 or walk[i] != walk[i - 1]]
        for i, j in pairwise(entered):
            taken.setdefault((walk[i], walk[j]), []).append(j - i)
    links = np.full((7, 7), FAR)
    for pair, counts in taken.items():
        links[pair] = np.mean(counts)
    shortest = np.where(np.eye(7, dtype=bool), 0, links)
    for k in range(7):
        shortest = np.minimum(shortest, shortest[:, k : k + 1] + shortest[k : k + 1])
    return links, shortest


@pytest.mark.parametrize("landmarks", [40, 64, 200])
def test_no_way_leads_through_a_wall(landmarks: int) -> None:
    """Two rows of points, nearer to each other than one aims, that no episode crosses but at the far end."""
    upper = np.stack([np.linspace(0, 4, 41), np.full(41, 0.5)], axis=1).astype(np.float32)
    lower = upper[::-1] * np.float32([1, -1])
    waypoints = waypoints_of(slices(np.concatenate([upper, lower]), 6), 12, landmarks, radius=0.1)
    assert steps(waypoints, upper[0], lower[-1]) == pytest.approx(81, rel=0.2)
    aims = [upper[0], *follow(waypoints, upper[0], lower[-1])]
    crossing = [pair for pair in pairwise(aims) if pair[0][1] * pair[1][1] < 0]
    assert len(crossing) == 1
    assert min(point[0] for point in crossing[0]) > 2.5


def test_a_goal_is_as_near_as_any_place_within_its_radius() -> None:
    """The place nearest to the goal is one that no episode ever entered; the next nearest is within the radius, and there is a way to it."""
    data = data_of(line(0, 1, 2, 3, 4), [(4, 0.4), (5, 0.4)])
    start, goal = np.float32([[0, 0], [4, 0.25]])
    assert steps(waypoints_of(data, 2), start, goal) == 4
    assert steps(waypoints_of(data, 2, radius=0.1), start, goal) == FAR
    assert np.allclose(follow(waypoints_of(data, 2), start, goal), [(2, 0), goal])


def test_a_way_begins_at_the_nearest_place_that_has_one() -> None:
    """From a place that was only ever arrived at, the way is that of its neighbour."""
    waypoints = waypoints_of(data_of(line(0, 1, 2, 3), [(0, 2), (0, 0.2)]), reach=2)
    start, goal = np.float32([[0, 0.3], [3, 0]])
    assert steps(waypoints, start, goal) == 3
    assert np.allclose(follow(waypoints, start, goal), [(2, 0), goal])


def test_of_the_places_within_the_radius_of_a_goal_the_way_ends_at_the_first() -> None:
    """From both sides, also where the nearest place is one from which nobody ever went on."""
    there, sinks = line(*range(8)), ([(3, 5), (0, 0.1)], [(4, 5), (7, 0.1)])
    waypoints = waypoints_of(data_of(there, there[::-1], *sinks), reach=2, radius=0.6)
    starts, goals = np.float32([[0, 0], [7, 0], [0, 0.2], [7, 0.2]]), np.float32(line(*[3.5] * 4))
    assert waypoints.steps(starts, goals).tolist() == [3, 3, 3, 3]


def test_each_state_has_its_own_goal() -> None:
    """In one batch: on the way, within reach, without a way; what was asked is not written to."""
    waypoints = waypoints_of(data_of(line(*range(8))), reach=3)
    states, tasks = np.float32([line(0, 5, 7), line(7, 7, 0)])
    before = states.copy(), tasks.copy()
    aims, final = waypoints(states, tasks)
    assert np.allclose(aims, line(3, 7, 0))
    assert final.tolist() == [False, True, True]
    assert np.array_equal(waypoints.steps(states, tasks), [7, 2, FAR])
    assert np.array_equal(states, before[0])
    assert np.array_equal(tasks, before[1])


@pytest.mark.parametrize("reach", [1, 5])
def test_one_step_longer_than_the_reach_is_taken_all_the_same(reach: int) -> None:
    """There is no place between to aim at."""
    waypoints = waypoints_of(data_of(line(*[0] * 9, 1, *[1] * 9, 2)), reach)
    start, goal = np.float32(line(0, 2))
    assert steps(waypoints, start, goal) == 19
    assert np.allclose(follow(waypoints, start, goal)[0], (1, 0))
    assert np.allclose(follow(waypoints, start, goal)[-1], goal)


def test_one_place_alone() -> None:
    """An episode that never moved, and fewer places than one looks among for a way's beginning."""
    waypoints = waypoints_of(data_of(line(1, 1, 1), line(1, 1)), reach=1)
    aims, final = waypoints(np.float32(line(1, 0)), np.float32(line(1, 5)))
    assert len(waypoints.landmarks) == 1
    assert np.array_equal(aims, np.float32(line(1, 5)))
    assert final.all()


def test_goals_are_the_state_entries_that_are_named() -> None:
    """The same ways where the goal stands elsewhere in the state, behind entries that are none of it."""
    plain = slices(U, 4)
    states = np.concatenate([np.float32(np.arange(2 * len(plain.states)).reshape(-1, 2)), plain.states[:, ::-1]], axis=1)
    rows = pack_rows(states, plain.actions, plain.rewards)
    data = replace(plain, spec=replace(plain.spec, state_dim=4), rows=rows)
    hidden = Waypoints(data, (3, 2), RADIUS, WaypointConfig(5, 64))
    start = np.float32([[123, 456, U[0, 1], U[0, 0]]])
    assert hidden.steps(start, U[-1:])[0] == 18
    assert np.allclose(hidden(start, U[-1:])[0], U[5])
    assert hidden.reached(start[None], U[:1]).tolist() == [[True]]


def test_reached_is_within_the_radius() -> None:
    waypoints = waypoints_of(data_of(line(0, 1)), 1, radius=0.5)
    states, aims = np.float32([[(1, 0), (1.5, 0), (1, 0.51)], [(0.7, 0.3), (0, 0), (0.4, 0)]]), np.float32([(1, 0), (0, 0)])
    assert waypoints.reached(states, aims).tolist() == [[True, True, False], [False, True, True]]


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(2)), elements=st.integers(-5, 5)), st.integers(1, 40))
def test_spread_leaves_no_point_farther_than_its_own_are_apart(points: Array, count: int) -> None:
    """As many different points as there are, or as were asked for, and each at least as far from the others as anything is from them."""
    chosen = spread(points, count)
    assert len(chosen) == min(count, len(np.unique(points, axis=0)))
    assert len(np.unique(points[chosen], axis=0)) == len(chosen)
    between = np.linalg.norm(points[:, None] - points[chosen], axis=2)
    if len(chosen) > 1:
        apart = between[chosen][~np.eye(len(chosen), dtype=bool)].min()
        assert between.min(1).max() <= apart + 1e-6
