"""Shifted environments: what a factor does to the motion, and where there is nothing to shift."""

from __future__ import annotations

import numpy as np
import pytest

import toys
from atradiff.data.environment import EnvironmentConfig, TaskEnvironment
from atradiff.data.shift import ShiftConfig
from atradiff.errors import UserError
from atradiff.trajectory import Array

MAZE = EnvironmentConfig(
    "PointMaze_Medium-v3", {"continuing_task": False}, {"reset_cell": np.asarray([1, 1]), "goal_cell": np.asarray([6, 6])}, 500, (0, 1)
)


def motion(shift: ShiftConfig, actions: list[float]) -> Array:
    """Velocities `[T, 2]` under actions along x, from rest in the middle of a way."""
    environment = TaskEnvironment(MAZE, shift=shift)
    environment.reset(seed=1)
    velocities = np.stack([environment.step(np.float32([action, 0.0]))[0][2:] for action in actions])
    environment.close()
    return velocities


def test_a_gain_is_a_factor_on_the_force() -> None:
    real, half, reversed_ = (motion(ShiftConfig(actuator_gain=gain), [1.0, -0.5])[:, 0] for gain in (1.0, 0.5, -1.0))
    assert real[0] > 0.1
    np.testing.assert_allclose(half, real / 2, rtol=1e-6)
    np.testing.assert_allclose(reversed_, -real, rtol=1e-6)


def test_damping_is_a_factor_on_what_slows_down() -> None:
    coasting = {factor: motion(ShiftConfig(damping=factor), [0.5, 0.0, 0.0])[:, 0] for factor in (0.0, 1.0, 20.0)}
    np.testing.assert_allclose(coasting[0.0], coasting[0.0][0], rtol=1e-6)
    slowed = {factor: 1 - v[2] / v[1] for factor, v in coasting.items()}
    assert 0 < slowed[1.0] < 0.01
    assert slowed[20.0] == pytest.approx(20 * slowed[1.0], rel=0.1)


def test_friction_is_a_factor_on_every_contact() -> None:
    friction = {factor: TaskEnvironment(MAZE, shift=ShiftConfig(friction=factor)).env.unwrapped.model.geom_friction for factor in (1.0, 0.5)}  # type: ignore[attr-defined]
    assert friction[1.0].all()
    np.testing.assert_allclose(friction[0.5], friction[1.0] / 2)


def test_no_shift_is_the_environment_as_it_is() -> None:
    assert np.array_equal(motion(ShiftConfig(), [0.3, -1.0]), motion(ShiftConfig(1.0, 1.0), [0.3, -1.0]))
    TaskEnvironment(toys.REACH, shift=ShiftConfig())


def test_what_has_no_mujoco_model_cannot_be_shifted() -> None:
    with pytest.raises(UserError, match=r"online.shift changes a MuJoCo model and task.environment 'toys/Reach-v0' has none"):
        TaskEnvironment(toys.REACH, shift=ShiftConfig(damping=2.0))
    with pytest.raises(UserError, match=r"online.shift.goal_region is of Meta-World's tasks, and task.environment 'PointMaze_Medium-v3' is none"):
        TaskEnvironment(MAZE, shift=ShiftConfig(goal_region=2.0))
