"""Pieces of episodes under the goals that they reached, against the episodes they are cut from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import toys
from atradiff.data.hindsight import Hindsight, HindsightConfig, arrival_radius
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData, pack_rows, stack_trajectories
from atradiff.data.windows import Windows
from atradiff.errors import UserError
from atradiff.synthesis.length_estimator import States
from atradiff.trajectory import Trajectory

GOAL = (0, 1)
CONFIG = HindsightConfig(cover=2, maximum_steps=10)


def with_pieces(data: OfflineData, config: HindsightConfig = CONFIG, seed: int = 0) -> OfflineData:
    return Hindsight(data, GOAL, config)(data, np.random.default_rng(seed))


def pieces_of(data: OfflineData, config: HindsightConfig = CONFIG, seed: int = 0) -> list[Trajectory]:
    result = with_pieces(data, config, seed)
    return [result.trajectory(episode) for episode in range(data.num_episodes, result.num_episodes)]


def distances(trajectory: Trajectory) -> np.ndarray:
    return np.linalg.norm(trajectory.states[:, GOAL] - trajectory.task, axis=1)


def test_the_radius_is_that_of_the_widest_success(offline: OfflineData) -> None:
    arrived = [distances(t)[-1] for t in offline.trajectories() if t.terminated]
    assert arrival_radius(offline, GOAL) == pytest.approx(max(arrived))
    assert min(arrived) < max(arrived) <= toys.REACHED
    backwards = replace(offline, rows=pack_rows(offline.states[:, ::-1], offline.actions, offline.rewards))
    assert arrival_radius(backwards, (1, 0)) == arrival_radius(offline, GOAL)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 30), st.integers(0, 2**31))
def test_every_piece_is_a_slice_that_first_arrives_at_its_end(cover: int, maximum_steps: int, seed: int) -> None:
    """And its goal is where its episode was, then or later, within the steps that were asked for."""
    offline = toys.make_offline(seed=seed)
    radius, rows = arrival_radius(offline, GOAL), {state.tobytes(): row for row, state in enumerate(offline.states)}
    assert len(rows) == len(offline.states)  # a state tells its row
    for piece in pieces_of(offline, HindsightConfig(cover, maximum_steps), seed):
        first, goal = rows[piece.states[0].tobytes()], rows[piece.task.tobytes()]
        last = first + len(piece)
        assert offline.row_episodes()[first] == offline.row_episodes()[goal]
        assert first < last <= goal <= first + maximum_steps
        assert np.array_equal(piece.states, offline.states[first : last + 1])
        assert np.array_equal(piece.actions, offline.actions[first:last])
        assert ((distances(piece) <= radius + 1e-6) == [*[False] * len(piece), True]).all()
        assert piece.rewards.tolist() == [0.0] * (len(piece) - 1) + [1.0]
        assert (piece.terminated, piece.truncated) == (True, False)


def test_the_episodes_themselves_come_first_as_they_were(offline: OfflineData) -> None:
    result = with_pieces(offline)
    again = result.select(np.arange(offline.num_episodes))
    for name in ("states", "actions", "rewards", "tasks", "episode_ends", "episode_terminated"):
        assert np.array_equal(getattr(again, name), getattr(offline, name)), name
    assert not result.actions[result.episode_ends - 1].any()
    assert not result.rewards[result.episode_ends - 1].any()


def test_pieces_speak_of_rewards_as_the_data_does(offline: OfflineData) -> None:
    """The same pieces where a step costs 1 and arriving nothing."""
    costly = np.where(np.isin(np.arange(len(offline.states)), offline.transition_rows()), offline.rewards - 1, 0).astype(np.float32)
    pairs = zip(pieces_of(offline), pieces_of(replace(offline, rows=pack_rows(offline.states, offline.actions, costly))), strict=True)
    assert all(np.array_equal(other.rewards, piece.rewards - 1) for piece, other in pairs)


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(5, 30), st.integers(0, 2**31))
def test_the_cover_is_met_and_by_no_more_than_a_piece(cover: int, maximum_steps: int, seed: int) -> None:
    offline = toys.make_offline(seed=seed)
    lengths = [len(piece) for piece in pieces_of(offline, HindsightConfig(cover, maximum_steps))]
    assert sum(lengths) - lengths[-1] < cover * offline.num_transitions <= sum(lengths)


def test_no_cover_is_the_data_itself(offline: OfflineData) -> None:
    assert Hindsight(offline, (), HindsightConfig(cover=0))(offline, np.random.default_rng(0)) is offline


def test_the_seed_decides_the_pieces(offline: OfflineData) -> None:
    first, again, other = (with_pieces(offline, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.states, again.states)
    assert np.array_equal(first.tasks, again.tasks)
    assert not np.array_equal(first.tasks[:80], other.tasks[:80])


def test_pieces_are_cut_from_whatever_data_is_shown(offline: OfflineData, held_out: OfflineData) -> None:
    """The radius and the rewards are the one's, the slices the other's: so online trajectories need no success of their own."""
    failures = held_out.select(np.flatnonzero(~held_out.episode_terminated))
    result = Hindsight(offline, GOAL, CONFIG)(failures, np.random.default_rng(0))
    assert result.episode_terminated[failures.num_episodes :].all()
    assert {state.tobytes() for state in result.states} <= {state.tobytes() for state in failures.states}
    assert all(distances(result.trajectory(i))[-1] <= toys.REACHED for i in range(failures.num_episodes, result.num_episodes))


def test_where_everything_is_at_its_goal_there_is_nothing_to_cut() -> None:
    far = replace(toys.line_trajectory(3, True), task=np.float32([90, 0]))  # a success ninety steps off
    data = stack_trajectories([far, toys.line_trajectory(5, False)], toys.SPEC)
    assert pieces_of(data, HindsightConfig(cover=4)) == []


def test_models_learn_from_pieces_as_from_episodes(offline: OfflineData, normalizer: Normalizer) -> None:
    """Windows tell of a piece's end and reward, and the steps to it are known at each of its states."""
    result, horizon = with_pieces(offline), 16
    windows, states = Windows(result, horizon, normalizer), States(result, normalizer)
    assert len(states) == result.num_transitions
    everything = states.at(torch.arange(len(states)))
    assert not everything.censored[offline.num_transitions :].any()
    owner = windows.episodes(torch.arange(len(windows)))
    lengths = result.episode_lengths[offline.num_episodes :]
    assert everything.steps[offline.num_transitions :].tolist() == [n for length in lengths for n in range(length, 0, -1)]
    for episode in range(offline.num_episodes, result.num_episodes, 7):
        piece = result.trajectory(episode)
        batch = windows.at(torch.nonzero(owner == episode)[:1, 0])
        imagined, _, outcome = normalizer.split(batch.rows[0].numpy())
        rewards, ended = normalizer.outcomes(outcome)
        assert np.allclose(batch.task[0], normalizer.tasks(piece.task))
        assert np.allclose(imagined[: len(piece) + 1], piece.states, atol=1e-5)
        assert int(ended.argmax()) + 1 == len(piece)
        assert np.array_equal(rewards[: len(piece)], piece.rewards)


@pytest.mark.parametrize("goal", [(), (0,), (0, 1, 1)])
def test_hindsight_needs_goals(offline: OfflineData, goal: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=rf"achieved_goal names {len(goal)} state entries and the data's task has 2; name those .* to 0"):
        Hindsight(offline, goal, CONFIG)


def test_hindsight_needs_a_success(offline: OfflineData) -> None:
    failures = offline.select(np.flatnonzero(~offline.episode_terminated))
    with pytest.raises(UserError, match=r"no offline episode has one: set task.hindsight.cover and synthesis.waypoints.reach to 0"):
        Hindsight(failures, GOAL, CONFIG)
