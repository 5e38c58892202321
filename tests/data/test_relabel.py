from __future__ import annotations

import numpy as np

from atradiff.data.relabel import relabel
from atradiff.trajectory import Array, BoolArray, Trajectory


def line(*positions: float) -> Trajectory:
    """A walk on a line; action t is t."""
    states = np.asarray(positions, np.float32)[:, None]
    steps = len(states) - 1
    return Trajectory(states, np.arange(steps, dtype=np.float32)[:, None], np.full(steps, 7, np.float32), goal(99), terminated=False, truncated=True)


def goal(position: float) -> Array:
    return np.asarray([position], np.float32)


def near(states: Array, actions: Array, next_states: Array, tasks: Array) -> tuple[Array, BoolArray]:
    del states, actions
    reached = np.abs(next_states[..., 0] - tasks) < 0.5
    return reached.astype(np.float32), reached


def test_a_trajectory_ends_where_the_task_does_and_begins_again_behind_that() -> None:
    first, second = relabel(line(0, 1, 2, 2.1, 3, 2, 1), goal(2), near)
    assert first.states[:, 0].tolist() == [0, 1, 2]
    assert first.actions[:, 0].tolist() == [0, 1]
    assert first.rewards.tolist() == [0, 1]
    assert second.states[:, 0].tolist() == [3, 2]
    assert second.actions[:, 0].tolist() == [4]
    for piece in (first, second):
        assert (piece.terminated, piece.truncated) == (True, False)
        assert piece.task.tolist() == [2]


def test_what_never_arrives_is_cut_off_and_has_no_reward() -> None:
    (before, after) = relabel(line(2, 3, 2, 2, 4, 5), goal(2), near)
    assert before.states[:, 0].tolist() == [2, 3, 2]
    assert [before.terminated, after.terminated, after.truncated] == [True, False, True]
    assert after.states[:, 0].tolist() == [4, 5]
    assert after.rewards.tolist() == [0]
    (whole,) = relabel(line(0, 1), goal(5), near)
    assert whole.truncated
    assert whole.states[:, 0].tolist() == [0, 1]
