"""Windows against the episodes they are cut from, transition by transition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import toys
from atradiff.data.continuation import CONTINUED_ROWS, Continuation
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData, read_store, stack_trajectories, write_store
from atradiff.data.windows import END_RAMP, WindowBatch, Windows
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
    starts = np.bincount(windows.episodes(torch.arange(len(windows))).numpy(), minlength=data.num_episodes)
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


def slow_windows(data: OfflineData, horizon: int, normalizer: Normalizer) -> WindowBatch:
    """All windows, row by row, as their text says."""
    actions, states = Continuation(data, normalizer)(np.arange(data.num_episodes))

    def padded_row(episode: int, step: int) -> np.ndarray:
        first, length, terminated = (int(x[episode]) for x in (data.episode_starts, data.episode_lengths, data.episode_terminated))
        last = max(length - 2, 0) if terminated else length - 1
        end = np.clip((length - 0.5 - step) / END_RAMP, -1, 1) if terminated else 1.0
        outcome = np.float32([data.rewards[first + min(step, last)], end, data.rewards[first + length - 1]])
        row, (o, a) = first + min(step, length), (data.spec.state_dim, data.spec.action_dim)
        padded = normalizer.rows(data.states[row], data.actions[row], outcome)
        if step >= length:
            padded[o : o + a] = actions[episode, min(step - length, CONTINUED_ROWS)]
        if step > length:
            padded[:o] = states[episode, min(step - length, CONTINUED_ROWS) - 1]
        return padded

    rows, tasks, valid = [], [], []
    for episode, (length, terminated) in enumerate(zip(data.episode_lengths.tolist(), data.episode_terminated.tolist(), strict=True)):
        for start in range(length if terminated else max(1, length + 2 - horizon)):
            steps = range(start, start + horizon)
            rows.append([padded_row(episode, step) for step in steps])
            tasks.append(normalizer.tasks(data.tasks[episode]))
            valid.append([terminated or step <= length for step in steps])
    return WindowBatch(*(torch.from_numpy(np.asarray(values)) for values in (rows, tasks, valid)))


@pytest.mark.parametrize("horizon", [2, 8, 30, 64])
def test_every_bit_is_the_slow_implementations(data: OfflineData, offline: OfflineData, horizon: int) -> None:
    for episodes in (data, offline.select(np.arange(8))):
        normalizer = Normalizer.of(episodes)
        windows = Windows(episodes, horizon, normalizer)
        batch = windows.at(torch.arange(len(windows)))
        assert all(torch.equal(a, b) for a, b in zip(batch, slow_windows(episodes, horizon, normalizer), strict=True))


def test_rows_built_in_blocks_are_the_same(data: OfflineData, windows: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atradiff.data.windows.BLOCK_ROWS", 10)
    monkeypatch.setattr("atradiff.data.normalizer.BLOCK", 7)
    again = Windows(data, HORIZON, Normalizer.of(data))
    everything = torch.arange(len(windows))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(windows.at(everything), again.at(everything), strict=True))


def test_mapped_data_gives_the_same_windows_and_leaves_no_file(data: OfflineData, windows: Windows, tmp_path: Path) -> None:
    write_store(tmp_path / "store.zarr", data, {})
    mapped = read_store(tmp_path / "store.zarr", mapped=True)
    assert isinstance(mapped.rows, np.memmap)
    assert isinstance(mapped.select(np.arange(3)).rows, np.memmap)
    again = Windows(mapped, HORIZON, Normalizer.of(mapped))
    everything = torch.arange(len(windows))
    assert all(torch.equal(a, b) for a, b in zip(windows.at(everything), again.at(everything), strict=True))
    assert [p.name for p in tmp_path.iterdir()] == ["store.zarr"]


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
