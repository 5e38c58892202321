"""Windows against the episodes they are cut from, transition by transition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import toys
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData, stack_trajectories
from atradiff.data.windows import Windows
from atradiff.errors import UserError
from atradiff.trajectory import Trajectory

HORIZON = 8
LENGTHS = [(5, True), (20, True), (20, False), (3, False), (1, True), (7, False), (8, True), (1, False)]


def coded(number: int, length: int, terminated: bool) -> Trajectory:
    """State t of episode n is (n, t): a row tells whose it is. Rewards are 0 but for the end of a terminated episode."""
    states = np.stack([np.full(length + 1, number), np.arange(length + 1)], axis=1).astype(np.float32)
    actions = np.stack([np.sin(states[:-1, 1]), np.cos(states[:-1, 0])], axis=1)
    rewards = np.zeros(length, np.float32)
    rewards[-1] = terminated
    return Trajectory(states, actions, rewards, np.float32([number, -number]), terminated, not terminated)


@pytest.fixture(scope="module")
def data() -> OfflineData:
    return stack_trajectories([coded(n, length, terminated) for n, (length, terminated) in enumerate(LENGTHS)], toys.SPEC)


@pytest.fixture(scope="module")
def windows(data: OfflineData) -> Windows:
    return Windows(data, HORIZON, Normalizer.of(data))


def test_every_valid_transition_of_every_window_is_its_episodes(data: OfflineData, windows: Windows) -> None:
    """No window crosses an episode's end, and what it says of rewards and terminations is what happened."""
    normalizer = windows.normalizer
    batch = windows.at(torch.arange(len(windows)))
    for rows, task, valid in zip(batch.rows.numpy(), batch.task.numpy(), batch.valid.numpy(), strict=True):
        states, actions, *outcome = normalizer.split(rows)
        rewards, ended = normalizer.outcomes(*outcome)
        number, first = (round(float(value)) for value in states[0])
        episode = data.trajectory(number)
        assert np.allclose(task, normalizer.tasks(episode.task))
        real = min(HORIZON - 1, len(episode) - first)
        assert real >= 1
        assert np.allclose(states[: real + 1], episode.states[first : first + real + 1], atol=1e-4)
        assert np.allclose(actions[:real], episode.actions[first : first + real], atol=1e-4)
        assert np.allclose(rewards[:real], episode.rewards[first : first + real], atol=1e-5)
        reaches_end = first + real == len(episode)
        assert np.array_equal(ended[:real], [*[False] * (real - 1), episode.terminated and reaches_end])
        assert valid[: real + 1].all()


def test_behind_a_truncation_nothing_is_valid_and_nothing_has_ended(data: OfflineData, windows: Windows) -> None:
    batch = windows.at(torch.arange(len(windows)))
    for rows, valid in zip(batch.rows.numpy(), batch.valid.numpy(), strict=True):
        states, _, *outcome = windows.normalizer.split(rows)
        number, first = (round(float(value)) for value in states[0])
        episode = data.trajectory(number)
        real_rows = min(HORIZON, len(episode) + 1 - first)
        if not episode.terminated:
            assert valid.tolist() == [True] * real_rows + [False] * (HORIZON - real_rows)
            assert not windows.normalizer.outcomes(*outcome)[1][: real_rows - 1].any()


def test_behind_a_termination_every_row_is_valid_and_has_ended(data: OfflineData, windows: Windows) -> None:
    """The end is a state to stay in: whatever reads the window's outcome later than its end finds it ended there or before."""
    batch = windows.at(torch.arange(len(windows)))
    seen = 0
    for rows, valid in zip(batch.rows.numpy(), batch.valid.numpy(), strict=True):
        states, _, *outcome = windows.normalizer.split(rows)
        number, first = (round(float(value)) for value in states[0])
        episode = data.trajectory(number)
        left = len(episode) - first
        if episode.terminated and left < HORIZON:
            seen += 1
            assert valid.all()
            assert windows.normalizer.outcomes(*outcome)[1][left - 1 :].all()
    assert seen > 5


def test_a_terminated_episode_has_a_window_from_every_transition(data: OfflineData, windows: Windows) -> None:
    """A truncated one has only those that fit, or the one from its first row."""
    starts = np.bincount(windows.episodes.numpy(), minlength=data.num_episodes)
    expected = [length if terminated else max(1, length + 2 - HORIZON) for length, terminated in LENGTHS]
    assert starts.tolist() == expected
    assert len(windows) == sum(expected)


def test_sampling_is_uniform_over_starts(windows: Windows) -> None:
    draws = 200 * len(windows)
    rows = windows.sample(draws, toys.generator()).rows[:, 0, :2]
    _, counts = torch.unique(rows.round(decimals=4), dim=0, return_counts=True)
    assert len(counts) == len(windows)
    chi_square = float(((counts - 200) ** 2 / 200).sum())
    degrees = len(windows) - 1
    assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


def test_sampling_is_the_generators(windows: Windows) -> None:
    first, again = (windows.sample(16, toys.generator(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_all_episodes_shorter_than_the_horizon_still_give_windows() -> None:
    data = stack_trajectories([coded(0, 3, False), coded(1, 2, False)], toys.SPEC)
    windows = Windows(data, 16, Normalizer.of(data))
    assert len(windows) == 2
    assert windows.at(torch.arange(2)).valid.sum(1).tolist() == [4, 3]


def test_horizon_of_one_holds_no_transition(data: OfflineData) -> None:
    with pytest.raises(UserError, match="horizon 1"):
        Windows(data, 1, Normalizer.of(data))
