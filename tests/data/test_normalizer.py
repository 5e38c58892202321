"""The normaliser: statistics, the way there and back, and sparse rewards snapped to their values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import toys
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData, stack_trajectories
from atradiff.data.windows import Windows
from atradiff.diffusion.checkpoint import load_normalizer, normalizer_state


def test_states_and_actions_are_standardised(offline: OfflineData, normalizer: Normalizer) -> None:
    states = normalizer.states(offline.states)
    assert np.allclose(states.mean(0), 0, atol=1e-4)
    assert np.allclose(states.std(0), 1, atol=1e-4)
    tasks = normalizer.tasks(offline.tasks)
    assert np.allclose(tasks.mean(0), 0, atol=1e-4)
    assert np.allclose(tasks.std(0), 1, atol=1e-4)
    transitions = offline.transition_rows()
    actions = (offline.actions[transitions] - normalizer.row_mean[2:4]) / normalizer.row_scale[2:4]
    assert np.allclose(actions.mean(0), 0, atol=1e-4)
    assert np.allclose(actions.std(0), 1, atol=1e-4)


def test_windows_survive_the_round_trip(offline: OfflineData, normalizer: Normalizer) -> None:
    """Rows of the data come back from normalised units as they were; see test_windows for rewards and terminations."""
    batch = Windows(offline, 4, normalizer).sample(64, toys.generator())
    states, actions, *_ = normalizer.split(batch.rows.numpy())
    for window, acts in zip(states, actions, strict=True):
        at = int(np.argmin(np.abs(offline.states - window[0]).sum(1)))
        assert np.allclose(offline.states[at : at + 2], window[:2], atol=1e-5)
        assert np.allclose(offline.actions[at], acts[0], atol=1e-5)


def test_actions_are_clipped_to_their_range(normalizer: Normalizer) -> None:
    rows = np.full((3, normalizer.num_channels), 50.0, np.float32)
    _, actions, *_ = normalizer.split(rows)
    assert np.array_equal(actions, np.ones((3, 2), np.float32))
    _, actions, *_ = normalizer.split(-rows)
    assert np.array_equal(actions, -np.ones((3, 2), np.float32))


def test_a_channel_that_never_changes_is_carried() -> None:
    """Constant states, actions and rewards: scale 1, so that nothing is divided by zero or blown up."""
    trajectory = replace(
        toys.line_trajectory(6, False),
        states=np.full((7, 2), 3, np.float32),
        actions=np.zeros((6, 2), np.float32),
        rewards=np.zeros(6, np.float32),
    )
    normalizer = Normalizer.of(stack_trajectories([trajectory, trajectory], toys.SPEC))
    assert np.array_equal(normalizer.row_scale[:4], np.ones(4))
    assert np.allclose(normalizer.states(np.float32([[3, 3], [3.5, 3]])), [[0, 0], [0.5, 0]])
    assert np.isfinite(normalizer.row_scale).all()
    assert (normalizer.row_scale > 0).all()


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=4, unique=True),
    st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=20),
)
def test_snapping_goes_to_the_nearest_value(values: list[float], rewards: list[float]) -> None:
    spec = replace(toys.SPEC, reward_values=tuple(sorted(values)))
    normalizer = Normalizer(spec, np.zeros(7, np.float32), np.ones(7, np.float32), np.zeros(2, np.float32), np.ones(2, np.float32))
    snapped = normalizer.snap_rewards(np.float32(rewards))
    assert set(snapped.tolist()) <= set(np.float32(values).tolist())
    distance = np.abs(np.float64(rewards) - snapped)
    best = np.abs(np.float64(rewards)[:, None] - np.float64(np.float32(values))[None]).min(1)
    assert np.allclose(distance, best, atol=1e-4)


def test_continuous_rewards_are_left_alone() -> None:
    normalizer = Normalizer(replace(toys.SPEC, reward_values=()), *(np.ones(n, np.float32) for n in (7, 7, 2, 2)))
    rewards = np.float32([0.1, -3.3])
    assert np.array_equal(normalizer.snap_rewards(rewards), rewards)


@pytest.mark.parametrize("terminated", [True, False])
def test_dense_rewards_and_the_end_come_back_through_windows(terminated: bool) -> None:
    """`outcomes` of a dense-reward episode: each reward at its own transition, the termination at the last."""
    spec = replace(toys.SPEC, reward_values=(), reward_minimum=1.0)
    data = stack_trajectories([toys.line_trajectory(9, terminated), toys.line_trajectory(9, not terminated)], spec)
    normalizer = Normalizer.of(data)
    windows = Windows(data, 10, normalizer)
    rows = windows.at(torch.tensor([0])).rows[0].numpy()
    _, _, *outcome = normalizer.split(rows)
    rewards, ended = normalizer.outcomes(*outcome)
    assert np.allclose(rewards, data.trajectory(0).rewards, atol=1e-4)
    assert ended.tolist() == [False] * 8 + [terminated]


def test_it_is_kept_in_a_checkpoint(normalizer: Normalizer) -> None:
    again = load_normalizer(normalizer_state(normalizer))
    assert again.spec == normalizer.spec
    assert all(np.array_equal(getattr(again, f), getattr(normalizer, f)) for f in ("row_mean", "row_scale", "task_mean", "task_scale"))
