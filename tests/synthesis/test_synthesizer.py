"""Synthesis around denoisers whose answers are known: each of them imagines exactly what a scripted walker would do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import toys
from atradiff.data.environment import Oracle, TaskEnvironment
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData, stack_trajectories
from atradiff.data.windows import Windows
from atradiff.diffusion.denoiser import Denoiser
from atradiff.diffusion.sampler import SamplerConfig
from atradiff.errors import UserError
from atradiff.synthesis.actuators import Actuators
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.length_estimator import EstimatorNetworkConfig, LengthEstimator
from atradiff.synthesis.prune import PruneConfig, Pruned
from atradiff.synthesis.quality import measure
from atradiff.synthesis.reward_model import RewardModel
from atradiff.synthesis.synthesizer import (
    Imagined,
    RewardArm,
    SynthesisConfig,
    Synthesizer,
    goal_rewards,
    learned_rewards,
    oracle_rewards,
)
from atradiff.synthesis.waypoints import WaypointConfig, Waypoints
from atradiff.trajectory import Array, BoolArray, Trajectory

KEEP_ALL = SynthesisConfig(maximum_windows=1, prune=PruneConfig(loops=False, to_length=False))
STATES = np.float32([[0.0, 0.0], [0.5, 0.5], [-0.5, 0.2], [0.8, -0.8], [0.1, 0.9]])
TASKS = np.float32([[0.1, 0.3], [-0.6, 0.4], [-0.5, -0.2], [0.8, 0.8], [0.1, 0.0]])


def straight_walk(state: Array, task: Array) -> Trajectory:
    """Straight towards the goal at full speed, until it is reached."""
    states, actions, rewards = [state], [], []
    while not sum(rewards):
        actions.append(np.clip((task - states[-1]) / toys.STEP, -1, 1))
        states.append((states[-1] + np.float32(toys.STEP) * actions[-1]).astype(np.float32))
        rewards.append(float(np.linalg.norm(states[-1] - task) <= toys.REACHED))
    return Trajectory(np.stack(states), np.stack(actions), np.float32(rewards), task, True, False)


class Walker(nn.Module):
    """A denoiser that imagines the straight walk; keeps what it was asked."""

    def __init__(self, normalizer: Normalizer, horizon: int) -> None:
        super().__init__()
        self.normalizer = normalizer
        self.horizon = horizon
        self.asked: list[Array] = []

    def sample(self, states: Array, tasks: Array, config: SamplerConfig, generator: torch.Generator) -> Array:
        self.asked.append(states.copy())
        walks = (straight_walk(state, task) for state, task in zip(states, tasks, strict=True))
        windows = (Windows(stack_trajectories([walk], self.normalizer.spec), self.horizon, self.normalizer) for walk in walks)
        return np.stack([w.at(torch.tensor([0])).rows[0].numpy() for w in windows])


class Known(LengthEstimator):
    """A length estimator that knows the length of the straight walk, times 0.5, 1 and 2 at its three quantiles."""

    def predict(self, states: Array, tasks: Array) -> Array:
        lengths = [len(straight_walk(state, task)) for state, task in zip(states, tasks, strict=True)]
        return np.float32(lengths)[:, None] * np.float32([0.5, 1.0, 2.0])


def make(
    normalizer: Normalizer,
    config: SynthesisConfig,
    horizons: tuple[int, ...] = (4, 8, 24),
    arm: RewardArm | None = None,
    waypoints: Waypoints | None = None,
) -> Synthesizer:
    walkers = [Walker(normalizer, horizon) for horizon in horizons]
    estimator = Known(normalizer, EstimatorNetworkConfig(8, 1), 1.0)
    return Synthesizer(DenoiserBank(walkers), estimator, config, 0.1, arm, waypoints)  # type: ignore[arg-type]


def assert_same(ours: Trajectory, expected: Trajectory) -> None:
    assert np.allclose(ours.states, expected.states, atol=1e-5)
    assert np.allclose(ours.actions, expected.actions, atol=1e-5)
    assert np.array_equal(ours.rewards, expected.rewards)
    assert np.array_equal(ours.task, expected.task)
    assert (ours.terminated, ours.truncated) == (expected.terminated, expected.truncated)


def cut(trajectory: Trajectory, length: int) -> Trajectory:
    if length >= len(trajectory):
        return trajectory
    return Trajectory(
        trajectory.states[: length + 1],
        trajectory.actions[:length],
        trajectory.rewards[:length],
        trajectory.task,
        terminated=False,
        truncated=True,
    )


@pytest.mark.parametrize("horizon", [4, 24])
def test_imagined_trajectories_end_where_the_task_does_or_the_window(normalizer: Normalizer, horizon: int) -> None:
    """Terminated only where the goal is reached within the window, with its reward there; truncated where the window ended first."""
    imagined = make(normalizer, KEEP_ALL, (horizon,))(STATES, TASKS, toys.generator())
    assert len(imagined) == len(STATES)
    for ours, state, task in zip(imagined, STATES, TASKS, strict=True):
        assert_same(ours.trajectory, cut(straight_walk(state, task), horizon - 1))
    assert {i.trajectory.terminated for i in imagined} == ({True, False} if horizon == 4 else {True})


def test_models_that_know_of_no_end_are_not_believed_one(normalizer: Normalizer) -> None:
    """The windows go on behind the goal, and the rewards there are those of the reward channel."""
    synthesizer = make(normalizer, KEEP_ALL, (24,))
    synthesizer.ends = False
    for ours in synthesizer(STATES, TASKS, toys.generator()):
        assert (len(ours.trajectory), ours.trajectory.terminated) == (23, False)
        assert not ours.trajectory.rewards.any()


def test_windows_are_chained_until_the_task_ends(normalizer: Normalizer) -> None:
    """Where no horizon covers the way, windows carry on from each other's last states: the whole walk comes out, as from one long window."""
    config = replace(KEEP_ALL, maximum_windows=20, length_quantile=0.5)
    for ours, state, task in zip(make(normalizer, config, (4, 6))(STATES, TASKS, toys.generator()), STATES, TASKS, strict=True):
        walk = straight_walk(state, task)
        assert_same(ours.trajectory, walk)
        left, expected = len(walk), []
        while left > 0:  # each window is the shortest that covers what is left
            expected.append(4 if left <= 3 else 6)
            left -= expected[-1] - 1
        assert ours.horizons == tuple(expected)


def test_a_chain_has_at_most_so_many_windows(normalizer: Normalizer) -> None:
    imagined = make(normalizer, replace(KEEP_ALL, maximum_windows=2), (4,))(STATES, TASKS, toys.generator())
    for ours, state, task in zip(imagined, STATES, TASKS, strict=True):
        assert_same(ours.trajectory, cut(straight_walk(state, task), 6))


WAY = np.float32(
    [*((x / 10, 0.4) for x in range(-8, 8)), *((0.8, y / 10) for y in range(4, -4, -1)), *((x / 10, -0.4) for x in range(8, -9, -1))]
)
"""A U of forty steps, whose ends are eight apart for the straight walk."""
CHAINED = replace(KEEP_ALL, maximum_windows=100, length_quantile=0.5)
GOAL_ARM = goal_rewards((0, 1), toys.REACHED, 1.0, 0.0)


@pytest.fixture(scope="module")
def around() -> Waypoints:
    """Goals four steps on, from episodes of four steps each along the U."""
    walks = [WAY[i : i + 5] for i in range(len(WAY) - 4)]
    data = stack_trajectories([Trajectory(w, 0 * w[1:], 0 * w[1:, 0], w[-1], True, False) for w in walks], toys.SPEC)
    return Waypoints(data, (0, 1), 0.02, WaypointConfig(reach=4, landmarks=100))


def counted(imagined: Imagined) -> int:
    return len(imagined.pruned.rows) + imagined.pruned.cut + imagined.pruned.loops + imagined.pruned.trimmed


@pytest.mark.parametrize("arm", [None, GOAL_ARM])
@pytest.mark.parametrize("horizons", [(4, 8), (24,)])
def test_a_chain_over_waypoints_goes_the_way_that_the_data_knows(
    normalizer: Normalizer, around: Waypoints, horizons: tuple[int, ...], arm: RewardArm | None
) -> None:
    """From one end of the U and from its middle to the other end: never through the wall between, and with one reward and one end, at the
    goal; where the walker arrived on the way nothing ended."""
    states, tasks = WAY[[0, 20]], WAY[[-1, -1]]
    for ours, state, task in zip(
        make(normalizer, CHAINED, horizons, arm, around)(states, tasks, toys.generator()), states, tasks, strict=True
    ):
        walk = ours.trajectory
        between = walk.states[np.abs(walk.states[:, 1]) < 0.2]
        assert len(between) > 0
        assert (between[:, 0] > 0.6).all()
        assert np.array_equal(walk.states[0], state)
        assert np.array_equal(walk.task, task)
        assert np.linalg.norm(walk.states[-1] - task) <= toys.REACHED
        assert walk.rewards.tolist() == [0.0] * (len(walk) - 1) + [1.0]
        assert (walk.terminated, walk.truncated) == (True, False)
        assert np.allclose(walk.states[1:], walk.states[:-1] + np.float32(toys.STEP) * walk.actions, atol=1e-5)
        assert len(ours.horizons) > 4
        assert counted(ours) == ours.generated_rows == 1 + sum(horizon - 1 for horizon in ours.horizons)
    (straight,) = make(normalizer, CHAINED, horizons, arm)(states[:1], tasks[:1], toys.generator())
    assert np.allclose(straight.trajectory.states[:, 0], -0.8)  # without waypoints it is through the wall


def test_the_same_chain_is_pruned_as_one(normalizer: Normalizer, around: Waypoints) -> None:
    """What the pruner took and what it left add up; the reward at the end is never trimmed away."""
    config = replace(CHAINED, prune=PruneConfig(), length_quantile=0.1)
    for ours in make(normalizer, config, (4, 8), None, around)(WAY[[0, 20]], WAY[[-1, -1]], toys.generator()):
        assert counted(ours) == ours.generated_rows
        assert len(ours.trajectory) == len(ours.pruned.rows) - 1
        assert ours.trajectory.rewards.tolist()[-1] == 1.0


@pytest.mark.parametrize("arm", [None, GOAL_ARM])
def test_a_chain_that_stops_on_the_way_is_cut_short_there(normalizer: Normalizer, around: Waypoints, arm: RewardArm | None) -> None:
    (ours,) = make(normalizer, replace(CHAINED, maximum_windows=2), (8,), arm, around)(WAY[:1], WAY[-1:], toys.generator())
    assert ours.horizons == (8, 8)
    assert not ours.trajectory.rewards.any()
    assert (ours.trajectory.terminated, ours.trajectory.truncated) == (False, True)
    assert np.array_equal(ours.trajectory.task, WAY[-1])


def test_windows_are_as_long_as_the_way_to_the_waypoint(normalizer: Normalizer, around: Waypoints) -> None:
    """The shortest horizon covers what is left to each goal on the way, however far the task's own is."""
    synthesizer = make(normalizer, CHAINED, (8, 24), None, around)
    (ours,) = synthesizer(WAY[:1], WAY[-1:], toys.generator())
    assert set(ours.horizons) == {8}
    assert ours.estimated_length == len(ours.trajectory)
    asked = synthesizer.bank.current[8].asked  # type: ignore[union-attr]
    assert len(asked) == len(ours.horizons)
    assert all(np.abs(ours.trajectory.states - state).max(1).min() < 1e-5 for (state,) in asked)  # type: ignore[misc]


class Beyond:
    """A goal on the way that lies half a unit behind the task's own, reached within `radius`."""

    def __init__(self, radius: float = toys.REACHED) -> None:
        self.radius = radius

    def __call__(self, states: Array, tasks: Array) -> tuple[Array, BoolArray]:
        return tasks + np.float32([0.5, 0]), np.zeros(len(tasks), dtype=bool)

    def reached(self, states: Array, aims: Array) -> BoolArray:
        return np.linalg.norm(states - aims[:, None], axis=-1) <= self.radius


@pytest.mark.parametrize("arm", [None, GOAL_ARM])
def test_the_tasks_goal_counts_on_the_way_to_a_waypoint(normalizer: Normalizer, arm: RewardArm | None) -> None:
    """A reward arm knows it when the walk comes by; the denoiser was asked for another goal and says nothing of it."""
    start, task = np.float32([[-0.4, 0]]), np.float32([[0, 0]])
    config = replace(CHAINED, maximum_windows=1)
    (ours,) = make(normalizer, config, (24,), arm, Beyond())(start, task, toys.generator())  # type: ignore[arg-type]
    if arm is None:
        assert (ours.trajectory.states[-1, 0] > 0.3, ours.trajectory.rewards.any(), ours.trajectory.terminated) == (True, False, False)
    else:
        assert_same(ours.trajectory, straight_walk(start[0], task[0]))


@pytest.mark.parametrize(("radius", "steps"), [(0.05, 8), (0.25, 7), (0.52, 4), (2.0, 1)])
def test_a_window_stops_where_its_waypoint_is_reached(normalizer: Normalizer, radius: float, steps: int) -> None:
    """Within the waypoint's radius of 0.9 units off, or where the walker believes itself there."""
    config = replace(CHAINED, maximum_windows=1)
    synthesizer = make(normalizer, config, (24,), None, Beyond(radius))  # type: ignore[arg-type]
    (ours,) = synthesizer(np.float32([[-0.4, 0]]), np.float32([[0, 0]]), toys.generator())
    assert len(ours.trajectory) == steps
    assert counted(ours) == ours.generated_rows == 24


def test_a_chain_does_not_end_on_the_way(normalizer: Normalizer) -> None:
    """An estimate of half the steps calls the second window enough: for the task's own goal that is the end, for a waypoint it is not."""
    config, state, task = replace(CHAINED, length_quantile=0.1, maximum_windows=4), np.float32([[-0.4, 0]]), np.float32([[0, 0]])
    (onwards,) = make(normalizer, config, (4,), None, Beyond())(state, task, toys.generator())  # type: ignore[arg-type]
    (final,) = make(normalizer, config, (4,))(state, task + np.float32([0.5, 0]), toys.generator())
    assert (len(onwards.horizons), len(final.horizons)) == (4, 2)


def test_an_end_that_the_arm_denies_is_none(normalizer: Normalizer) -> None:
    """The walker believes itself there within 0.15, the arm within 0.05: the chain goes on where the walker stopped until the arm agrees."""
    synthesizer = make(normalizer, CHAINED, (24,), goal_rewards((0, 1), 0.05, 1.0, 0.0))
    for ours, state, task in zip(synthesizer(STATES, TASKS, toys.generator()), STATES, TASKS, strict=True):
        believed = straight_walk(state, task)
        assert np.linalg.norm(believed.states[-1] - task) > 0.05
        assert len(ours.horizons) == 2
        assert np.allclose(ours.trajectory.states[: len(believed) + 1], believed.states, atol=1e-5)
        assert np.linalg.norm(ours.trajectory.states[-1] - task) <= 0.05
        assert ours.trajectory.rewards.tolist() == [0.0] * (len(ours.trajectory) - 1) + [1.0]
        assert ours.trajectory.terminated
        assert counted(ours) == ours.generated_rows
    (alone,) = make(normalizer, replace(CHAINED, maximum_windows=1), (24,), synthesizer.reward_arm)(STATES[:1], TASKS[:1], toys.generator())
    walk = straight_walk(STATES[0], TASKS[0])
    assert_same(alone.trajectory, replace(walk, rewards=0 * walk.rewards, terminated=False, truncated=True))


@pytest.mark.parametrize("limit", [1, 5, 7])
def test_no_trajectory_is_longer_than_the_time_limit(normalizer: Normalizer, limit: int) -> None:
    """And no more windows are asked for than it takes."""
    config = replace(KEEP_ALL, maximum_windows=20)
    synthesizer = Synthesizer(
        DenoiserBank([Walker(normalizer, 4)]), Known(normalizer, EstimatorNetworkConfig(8, 1), 1.0), config, 0.1, time_limit=limit  # type: ignore[arg-type, list-item]
    )
    for ours, state, task in zip(synthesizer(STATES, TASKS, toys.generator()), STATES, TASKS, strict=True):
        assert_same(ours.trajectory, cut(straight_walk(state, task), limit))
        assert len(ours.horizons) <= -(-limit // 3)


def test_what_was_removed_is_kept_for_pictures() -> None:
    """A loop of rows 2 to 4, and what came behind row 6; each stretch begins and ends in states that were kept."""
    states = np.arange(9, dtype=np.float32)[:, None]
    rows = np.asarray([0, 1, 5, 6])
    walk = Trajectory(states[rows], np.zeros((3, 1), np.float32), np.zeros(3, np.float32), np.zeros(0, np.float32), False, True)
    imagined = Imagined(walk, (9,), 3.0, Pruned(rows, cut=2, loops=3, trimmed=0), 9, states)
    assert [stretch[:, 0].tolist() for stretch in imagined.removed()] == [[1, 2, 3, 4, 5], [6, 7, 8]]
    whole = imagined._replace(pruned=Pruned(np.arange(9), 0, 0, 0))
    assert whole.removed() == []


def test_what_is_pruned_is_among_what_was_generated(normalizer: Normalizer, around: Waypoints) -> None:
    for ours in make(normalizer, replace(CHAINED, prune=PruneConfig()), (4, 8), None, around)(WAY[[0, 20]], WAY[[-1, -1]], toys.generator()):
        np.testing.assert_array_equal(ours.generated[ours.pruned.rows], ours.trajectory.states)


def test_trimmed_to_the_estimated_length(normalizer: Normalizer) -> None:
    """The quantile 0.1 knows half of the way here: the rest is trimmed, unless the way to a reward would be cut."""
    config = replace(KEEP_ALL, length_quantile=0.1, prune=PruneConfig(loops=False))
    states, tasks = STATES[1:2], TASKS[1:2]
    walk = straight_walk(states[0], tasks[0])
    short = make(normalizer, config, (8, 24))(states, tasks, toys.generator())[0]
    assert short.horizons == (8,)
    assert_same(short.trajectory, cut(walk, round(len(walk) / 2)))
    rewarded = make(normalizer, config, (24,))(states, tasks, toys.generator())[0]
    assert_same(rewarded.trajectory, walk)


@pytest.mark.parametrize("maximum", [1, 3])
def test_no_trajectory_is_longer_than_the_maximum(normalizer: Normalizer, maximum: int) -> None:
    """The beginnings of the same trajectories; an end that is cut off is no end."""
    whole = make(normalizer, KEEP_ALL)(STATES, TASKS, toys.generator())
    short = make(normalizer, replace(KEEP_ALL, maximum_length=maximum))(STATES, TASKS, toys.generator())
    for cut, full in zip(short, whole, strict=True):
        kept = min(maximum, len(full.trajectory))
        assert np.array_equal(cut.trajectory.states, full.trajectory.states[: kept + 1])
        assert np.array_equal(cut.trajectory.rewards, full.trajectory.rewards[:kept])
        assert cut.trajectory.terminated == (full.trajectory.terminated and kept == len(full.trajectory))
        assert len(cut.pruned.rows) + cut.pruned.cut + cut.pruned.loops + cut.pruned.trimmed == cut.generated_rows


def test_first_state_is_exactly_the_agents(
    normalizer: Normalizer, trained_denoisers: list[Denoiser], trained_estimator: LengthEstimator
) -> None:
    synthesizer = Synthesizer(DenoiserBank(trained_denoisers), trained_estimator, SynthesisConfig(), 0.1)
    states, tasks = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 20, 2)).astype(np.float32)
    for imagined, state, task in zip(synthesizer(states, tasks, toys.generator()), states, tasks, strict=True):
        assert np.array_equal(imagined.trajectory.states[0], state)
        assert np.array_equal(imagined.trajectory.task, task)
        assert 1 <= len(imagined.trajectory) < imagined.horizons[0]
        assert len(imagined.trajectory.states) == len(imagined.trajectory) + 1
        assert (np.abs(imagined.trajectory.actions) <= 1).all()
        assert set(imagined.trajectory.rewards.tolist()) <= {0.0, 1.0}
        assert imagined.trajectory.terminated != imagined.trajectory.truncated
        assert imagined.generated_rows == imagined.horizons[0]


def test_requests_are_one_batch_a_horizon_and_come_back_in_order(normalizer: Normalizer) -> None:
    synthesizer = make(normalizer, replace(KEEP_ALL, length_quantile=0.5), (4, 10, 24))
    states, tasks = np.tile(STATES, (4, 1)), np.tile(TASKS, (4, 1))
    imagined = synthesizer(states, tasks, toys.generator())
    lengths = [len(straight_walk(s, t)) for s, t in zip(states, tasks, strict=True)]
    assert [i.horizons[0] for i in imagined] == [next((h for h in (4, 10, 24) if h - 1 >= n), 24) for n in lengths]
    assert [i.estimated_length for i in imagined] == lengths
    for i, state in zip(imagined, states, strict=True):
        assert np.array_equal(i.trajectory.states[0], state)
    for horizon, walker in synthesizer.bank.current.items():
        expected = [s for s, i in zip(states, imagined, strict=True) if i.horizons == (horizon,)]
        assert len(walker.asked) == 1  # type: ignore[arg-type]
        assert np.array_equal(walker.asked[0], expected)  # type: ignore[index]


@pytest.mark.parametrize(
    ("adapted", "share", "low", "high"), [(False, 1.0, 0, 0), (True, 0.0, 0, 0), (True, 1.0, 400, 400), (True, 0.25, 65, 135)]
)
def test_original_share(normalizer: Normalizer, adapted: bool, share: float, low: int, high: int) -> None:
    """Before there is an adapted denoiser the original has no share; then it has what was set, and the order is kept."""
    synthesizer = make(normalizer, replace(KEEP_ALL, original_share=share), (4,))
    synthesizer.adapted = adapted
    states, tasks = np.tile(STATES, (80, 1)), np.tile(TASKS, (80, 1))
    imagined = synthesizer(states, tasks, toys.generator())
    asked = [sum(len(a) for a in bank[4].asked) for bank in (synthesizer.bank.current, synthesizer.bank.original)]  # type: ignore[union-attr]
    assert sum(asked) == 400
    assert low <= asked[1] <= high
    assert all(np.array_equal(i.trajectory.states[0], s) for i, s in zip(imagined, states, strict=True))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_imagined_actions_are_those_for_the_motors_as_they_are(normalizer: Normalizer, share: float) -> None:
    """Whichever models they come from: what a motor does now was measured."""
    synthesizer = make(normalizer, replace(KEEP_ALL, original_share=share), (4,))
    synthesizer.adapted = True
    before = synthesizer(STATES, TASKS, toys.generator())
    synthesizer.actuators = Actuators(normalizer.spec, np.float32([-1, 2]))
    for was, now in zip(before, synthesizer(STATES, TASKS, toys.generator()), strict=True):
        assert np.allclose(now.trajectory.actions, was.trajectory.actions * [-1, 0.5], atol=1e-6)
        assert np.array_equal(now.trajectory.states, was.trajectory.states)


def forbidden(*arguments: object) -> None:
    raise AssertionError("the environment's reward function was called")


def test_only_the_oracle_arm_asks_the_environment(
    normalizer: Normalizer,
    trained_denoisers: list[Denoiser],
    trained_estimator: LengthEstimator,
    reach: TaskEnvironment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def imagine(arm: RewardArm | None) -> None:
        Synthesizer(DenoiserBank(trained_denoisers), trained_estimator, SynthesisConfig(), 0.1, arm)(STATES, TASKS, toys.generator())

    oracle = oracle_rewards(Oracle(reach))
    imagine(oracle)
    for name in ("compute_reward", "compute_terminated", "step"):
        monkeypatch.setattr(toys.Reach, name, forbidden)
    imagine(None)
    imagine(learned_rewards(RewardModel(normalizer, EstimatorNetworkConfig(8, 1)).eval()))
    with pytest.raises(AssertionError, match="was called"):
        imagine(oracle)


def test_the_arms_answer_is_what_is_stored(normalizer: Normalizer) -> None:
    """Rewards and the end come from the arm; behind the arm's first end everything is cut."""

    def arm(states: Array, actions: Array, next_states: Array, tasks: Array) -> tuple[Array, np.ndarray]:
        assert np.allclose(next_states[:, :-1], states[:, 1:])
        assert np.allclose(states[:, 0] + np.float32(toys.STEP) * actions[:, 0], next_states[:, 0], atol=1e-5)
        step = np.tile(np.arange(states.shape[1]), (len(tasks), 1))
        return (step / 10).astype(np.float32), step == 2

    for imagined in make(normalizer, KEEP_ALL, (24,), arm)(STATES[1:3], TASKS[1:3], toys.generator()):
        assert len(imagined.trajectory) == 3
        assert np.allclose(imagined.trajectory.rewards, [0, 0.1, 0.2])
        assert imagined.trajectory.terminated


def test_oracle_arm_relabels_truthfully(normalizer: Normalizer, reach: TaskEnvironment) -> None:
    imagined = make(normalizer, KEEP_ALL, (24,), oracle_rewards(Oracle(reach)))(STATES, TASKS, toys.generator())
    for ours, state, task in zip(imagined, STATES, TASKS, strict=True):
        assert_same(ours.trajectory, straight_walk(state, task))


def test_goal_rewards_by_hand() -> None:
    """On the edge is within; other state entries do not count, and neither do the states that the steps come from."""
    arm = goal_rewards((2, 0), 0.5, 0.0, -1.0)
    reached = np.float32([[1, 9, 2], [1, 9, 2.5], [1.5, 9, 2], [1.4, 9, 2.4], [2, 9, 1], [9, 9, 9]])
    (rewards,), (ended,) = arm(reached[None, ::-1], reached[None], reached[None], np.float32([[2, 1]]))
    assert ended.tolist() == [True, True, True, False, False, False]
    assert rewards.tolist() == [0, 0, 0, -1, -1, -1]
    assert rewards.dtype == np.float32


def test_goal_rewards_are_the_environments_own(normalizer: Normalizer, reach: TaskEnvironment) -> None:
    states = np.random.default_rng(0).uniform(-0.3, 0.3, (500, 2)).astype(np.float32)
    windows = states.reshape(5, 100, 2)
    (rewards, ended), (true, truly) = (arm(windows, windows, windows, TASKS[[4] * 5]) for arm in (GOAL_ARM, oracle_rewards(Oracle(reach))))
    assert np.array_equal(rewards, true)
    assert np.array_equal(ended, truly)
    assert 0 < ended.sum() < 500


@given(st.lists(st.integers(2, 300), min_size=1, max_size=5, unique=True), st.lists(st.floats(0, 400), min_size=1, max_size=10))
def test_shortest_cover(horizons: list[int], lengths: list[float]) -> None:
    bank = DenoiserBank.__new__(DenoiserBank)
    bank.current = dict.fromkeys(sorted(horizons))  # type: ignore[assignment]
    for length, chosen in zip(lengths, bank.shortest_cover(np.float32(lengths)), strict=True):
        covering = [h for h in sorted(horizons) if h - 1 >= np.float32(length) - 1e-4]
        assert chosen == (covering[0] if covering else max(horizons))


def test_originals_are_copies(trained_denoisers: list[Denoiser]) -> None:
    bank = DenoiserBank(list(reversed(trained_denoisers)))
    assert bank.horizons == [8, 16]
    for horizon in bank.horizons:
        for a, b in zip(bank.current[horizon].parameters(), bank.original[horizon].parameters(), strict=True):
            assert torch.equal(a, b)
            assert a.data_ptr() != b.data_ptr()
            assert not b.requires_grad


def test_an_empty_bank() -> None:
    with pytest.raises(UserError, match=r"denoiser.horizons is empty"):
        DenoiserBank([])


def test_quality_of_perfect_imagination(
    normalizer: Normalizer, offline: OfflineData, held_out: OfflineData, reach: TaskEnvironment
) -> None:
    """Walkers and an estimator that know everything score full marks; what this environment cannot tell is None."""
    config = replace(KEEP_ALL, length_quantile=0.5)
    metrics = measure(make(normalizer, config, (8, 24)), offline, held_out, reach, np.random.default_rng(0))
    for name in ("reward/precision", "reward/recall", "termination/precision", "termination/recall"):
        assert metrics[name] == 1.0
    assert metrics["termination/goal_distance"] <= toys.REACHED  # type: ignore[operator]
    assert metrics["prune/loop_share"] == metrics["prune/trimmed_share"] == 0
    assert metrics["synthesis/terminated_share"] == 1.0
    assert metrics["support/outside_share"] < 0.2  # type: ignore[operator]
    for name in ("one_step_error/8", "one_step_error/real_step", "support/in_wall_share"):
        assert metrics[name] is None
