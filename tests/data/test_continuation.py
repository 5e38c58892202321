"""Behind an episode's end the motion goes on, comes to rest, and breaks no linear relation that the data keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import toys
from atradiff.data.continuation import BRAKING_ROWS, CONTINUED_ROWS, GUIDED_ROWS, Continuation
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData, stack_trajectories
from atradiff.trajectory import Array, Spec, Trajectory

DT = 0.05
FASTEST = 1.0


def carts(episodes: int, length: int = 40, seed: int = 0) -> OfflineData:
    """A cart (x, v) on a line: v' = v + 0.2 a, but no faster than 1 and not past walls, which no linear relation tells; and x' = x + v' dt, always."""
    generator = np.random.default_rng(seed)
    trajectories = []
    for _ in range(episodes):
        states, actions = [generator.uniform(-1, 1, 2)], generator.uniform(-1, 1, (length, 2))
        for action in actions:
            x, v = states[-1]
            v = np.clip(v + 0.2 * action[0], -FASTEST, FASTEST) * (-0.5 if abs(x) > 1 and x * v > 0 else 1.0)
            states.append(np.array([x + v * DT, v]))
        trajectories.append(trajectory(np.array(states), actions))
    return stack_trajectories(trajectories, toys.SPEC)


def trajectory(states: np.ndarray, actions: np.ndarray) -> Trajectory:
    rewards = np.zeros(len(actions), np.float32)
    return Trajectory(states.astype(np.float32), actions.astype(np.float32), rewards, np.zeros(2, np.float32), True, False)


def continued(data: OfflineData) -> tuple[Array, Array]:
    """Actions `[E, 1 + N, A]` and states `[E, 1 + N, O]` from each episode's last state on, in the task's units."""
    normalizer, o = Normalizer.of(data), data.spec.state_dim
    actions, states = Continuation(data, normalizer)(np.arange(data.num_episodes))
    mean, scale = normalizer.row_mean, normalizer.row_scale
    a = slice(o, o + data.spec.action_dim)
    last = data.states[data.episode_ends - 1][:, None]
    return actions * scale[a] + mean[a], np.concatenate([last, states * scale[:o] + mean[:o]], axis=1)


def nearest_rows(data: OfflineData) -> list[int]:
    """Of each episode, the row with a transition whose state is nearest to its last one."""
    normalizer, rows = Normalizer.of(data), data.transition_rows()
    states = normalizer.states(data.states)
    return [int(rows[np.square(states[rows] - states[last]).sum(1).argmin()]) for last in data.episode_ends - 1]


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 12), st.integers(0, 100))
def test_the_relation_is_kept_and_the_end_is_rest(episodes: int, seed: int) -> None:
    actions, states = continued(carts(episodes, seed=seed))
    assert actions.shape == (episodes, 1 + CONTINUED_ROWS, 2)
    assert states.shape == (episodes, 1 + CONTINUED_ROWS, 2)
    x, v = states[..., 0], states[..., 1]
    assert np.allclose(x[:, 1:], x[:, :-1] + v[:, 1:] * DT, atol=1e-5)
    assert np.allclose(v[:, -1], 0.0, atol=1e-4)
    assert np.abs(v).max() <= FASTEST + 0.1


def test_it_brakes_evenly() -> None:
    _, states = continued(carts(8))
    v = states[:, GUIDED_ROWS:, 1]
    assert np.allclose(v, v[:, :1] * np.linspace(1, 0, BRAKING_ROWS + 1), atol=0.02)


def test_it_goes_on_as_the_nearest_episode_does() -> None:
    """An episode that ends where another one passes has, behind its end, what the other one did: none of its rows jumps."""
    data = carts(1, length=200)
    whole = data.trajectory(0)
    cut = trajectory(whole.states[:101], whole.actions[:100])
    actions, states = continued(stack_trajectories([whole, cut], data.spec))
    assert np.allclose(states[1, : 1 + GUIDED_ROWS], whole.states[100 : 101 + GUIDED_ROWS], atol=1e-4)
    assert np.allclose(actions[1, :GUIDED_ROWS], whole.actions[100 : 100 + GUIDED_ROWS], atol=1e-4)


def test_what_an_action_does_is_left_open() -> None:
    """Where all of the motion is linear, s' = s + a / 10, the states alone tell nothing: so they go where the nearest episode goes, and stay there.
    Else no denoiser could follow actuators that have changed."""
    generator = np.random.default_rng(0)
    drawn = [generator.uniform(-1, 1, (30, 2)) for _ in range(5)]
    data = stack_trajectories(
        [trajectory(np.concatenate([np.zeros((1, 2)), toys.STEP * actions.cumsum(0)]), actions) for actions in drawn], toys.SPEC
    )
    actions, states = continued(data)
    assert np.allclose(states[:, 1 + GUIDED_ROWS :], states[:, [GUIDED_ROWS]], atol=1e-6)
    assert np.allclose(actions[:, GUIDED_ROWS:], 0.0, atol=1e-6)
    for episode, nearest in enumerate(nearest_rows(data)):
        stop = data.episode_ends[np.searchsorted(data.episode_ends, nearest, side="right")] - 1
        assert np.allclose(actions[episode, :GUIDED_ROWS], data.actions[np.minimum(nearest + np.arange(GUIDED_ROWS), stop)], atol=1e-5)
        assert np.allclose(states[episode, GUIDED_ROWS], data.states[min(nearest + GUIDED_ROWS, stop)], atol=1e-5)


def test_too_few_transitions_tell_no_relation() -> None:
    """One more unknown than transitions: any motion would be linear. The last state of a followed episode is then where it rests."""
    spec = Spec(2, 2, 2, (-1.0, -1.0), (1.0, 1.0), reward_values=(0.0,), reward_minimum=0.0)
    generator = np.random.default_rng(0)
    data = stack_trajectories([trajectory(generator.uniform(-1, 1, (4, 2)), generator.uniform(-1, 1, (3, 2)))], spec)
    _, states = continued(data)
    assert np.isfinite(states).all()
    assert np.allclose(states[:, -1], data.states[-1], atol=1e-5)


@pytest.mark.parametrize("episodes", [[3], [0, 5, 2]])
def test_an_episodes_rows_are_its_own(episodes: list[int]) -> None:
    data = carts(6)
    continuation = Continuation(data, Normalizer.of(data))
    for part, whole in zip(continuation(np.array(episodes)), continuation(np.arange(6)), strict=True):
        assert np.allclose(part, whole[episodes], atol=1e-6)


def test_each_row_is_the_nearest_to_its_guide() -> None:
    """By the plain solution, x' and v' on the line x' = x + v' dt, in normalised units, for the first row behind an end."""
    data = carts(6)
    normalizer = Normalizer.of(data)
    _, states = Continuation(data, normalizer)(np.arange(6))
    (mean, scale) = normalizer.row_mean[:2].astype(float), normalizer.row_scale[:2].astype(float)
    for episode, nearest in enumerate(nearest_rows(data)):
        here = normalizer.states(data.states[data.episode_ends[episode] - 1]).astype(float)
        guide = normalizer.states(data.states[nearest + 1])
        normal = np.array([scale[0], -DT * scale[1]])  # of the line, in normalised units
        broken = normal @ guide + mean[0] - DT * mean[1] - (here[0] * scale[0] + mean[0])
        assert np.allclose(states[episode, 0], guide - broken * normal / (normal @ normal), atol=1e-5)
