"""Actuators are measured through collisions, and translate actions there and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import toys
from atradiff.data.store import OfflineData
from atradiff.synthesis.actuators import Actuators, measure_strength
from atradiff.synthesis.inverse_dynamics import InverseDynamics, fit_inverse_dynamics
from atradiff.trajectory import Trajectory

SPEC = replace(toys.SPEC, action_low=(-1.0, 0.0), action_high=(1.0, 4.0))
MIDDLE, HALF = np.float32([0, 2]), np.float32([1, 2])
NO_CHANGE = InverseDynamics(np.zeros(4), np.ones(4), np.concatenate([np.zeros((2, 2)), np.eye(2)]), np.zeros(2), np.ones(2))
"""The offline actions are the steps themselves."""


def moved(done: np.ndarray, told: np.ndarray) -> list[Trajectory]:
    """One trajectory in which the actions `done [N, 2]` had the effects of `told [N, 2]`."""
    states = np.concatenate([np.zeros((1, 2)), np.cumsum(told, axis=0)]).astype(np.float32)
    return [Trajectory(states, done.astype(np.float32), np.zeros(len(done), np.float32), np.zeros(2, np.float32), False, True)]


def steps(strength: list[float], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random actions, and what the offline data would have needed for their effect."""
    done = np.random.default_rng(0).uniform(-1, 1, (count, 2)).astype(np.float32)
    return MIDDLE + HALF * done, MIDDLE + HALF * done * np.float32(strength)


@pytest.mark.parametrize("strength", [[1.0, 1.0], [-1.0, 0.5], [0.2, 3.0], [-0.3, -5.0]])
def test_strengths_are_found(strength: list[float]) -> None:
    done, told = steps(strength, 60)
    noise = 0.01 * np.random.default_rng(1).standard_normal(told.shape)
    np.testing.assert_allclose(measure_strength(moved(done, told + noise), NO_CHANGE, SPEC), strength, rtol=0.1)


def test_walls_are_outvoted() -> None:
    """Most of the time something pushes against a wall and moves a little, now and then it bounces off."""
    done, told = steps([-1.0, 0.5], 60)
    stuck = MIDDLE + 0.03 * HALF * np.random.default_rng(2).standard_normal((600, 2))
    bounces = MIDDLE + HALF * np.random.default_rng(3).uniform(-8, 8, (30, 2))
    pushing = np.broadcast_to(MIDDLE + HALF * 0.9, (630, 2))
    found = measure_strength(moved(np.concatenate([done, pushing]), np.concatenate([told, stuck, bounces])), NO_CHANGE, SPEC)
    np.testing.assert_allclose(found, [-1.0, 0.5], rtol=0.05)


def test_what_has_moved_nothing_is_as_it_was() -> None:
    done, told = steps([-1.0, 0.0], 60)
    np.testing.assert_allclose(measure_strength(moved(done, told), NO_CHANGE, SPEC), [-1, 1], rtol=1e-3)
    assert measure_strength(moved(done[:1] / 2, told[:1] / 2), NO_CHANGE, SPEC).tolist() == [1.0, 1.0]


def test_what_the_inverse_dynamics_do_not_explain_is_not_measured() -> None:
    done, told = steps([-1.0, -1.0], 60)
    vague = replace(NO_CHANGE, explained=np.asarray([1.0, 0.3]))
    np.testing.assert_allclose(measure_strength(moved(done, told), vague, SPEC), [-1, 1], rtol=1e-3)


def test_actions_are_translated_within_their_range_and_back() -> None:
    actuators = Actuators(SPEC, np.float32([-1.0, 0.5]))
    actions = np.float32([[0.3, 2.5], [1.0, 4.0]])
    now = actuators.to_now(actions)
    np.testing.assert_allclose(now, [[-0.3, 3.0], [-1.0, 4.0]], rtol=1e-6)  # the last would have to be 6
    np.testing.assert_allclose(actuators.to_offline(now)[0], actions[0], rtol=1e-6)
    assert now.dtype == np.float32


def test_the_inverse_dynamics_know_which_action_led_on(offline: OfflineData, held_out: OfflineData) -> None:
    model = fit_inverse_dynamics(offline)
    assert (model.explained > 0.95).all()
    rows = held_out.transition_rows()
    found = model(held_out.states[rows], held_out.states[rows + 1])
    assert np.abs(found - held_out.actions[rows]).mean() < 0.1
