"""Meta-World as one goal environment. Most of it needs the extra, which `make test-metaworld` installs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atradiff.data.collect import CollectConfig
from atradiff.data.convert import convert, open_dataset
from atradiff.data.environment import EnvironmentConfig, TaskEnvironment
from atradiff.data.metaworld import ENVIRONMENT_ID, ONE_OBJECT, scripted_policy
from atradiff.data.shift import ShiftConfig
from atradiff.errors import UserError
from atradiff.params.tasks import METAWORLD_TASKS
from atradiff.trajectory import Array
from recorded import make

TASKS = ("door-open", "button-press-topdown")
STEPS = 40


def config(tasks: tuple[str, ...] = TASKS, options: dict[str, Any] | None = None, steps: int = 300) -> EnvironmentConfig:
    return EnvironmentConfig(ENVIRONMENT_ID, {"tasks": list(tasks)}, options or {}, steps)


def test_the_missing_extra_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "metaworld.env_dict", None)
    with pytest.raises(UserError, match="Meta-World is not installed: add it with"):
        TaskEnvironment(config())


@pytest.fixture(scope="module")
def environment() -> TaskEnvironment:
    pytest.importorskip("metaworld")
    return TaskEnvironment(config())


def episode(environment: TaskEnvironment, seed: int, actions: Array) -> Array:
    """The states `[T + 1, O]` of acting so."""
    return np.stack([environment.reset(seed)[0], *(environment.step(action)[0] for action in actions)])


def test_the_same_seed_and_actions_give_the_same_episode_whatever_was_before(environment: TaskEnvironment) -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, 4)).astype(np.float32)
    first, other = episode(environment, 3, actions), episode(environment, 4, actions)
    assert np.array_equal(episode(environment, 3, actions), first)
    assert np.array_equal(episode(TaskEnvironment(config()), 3, actions), first)
    assert not np.array_equal(first[0], other[0])


def test_a_state_is_the_moment_and_its_change(environment: TaskEnvironment) -> None:
    states = episode(environment, 0, np.random.default_rng(0).uniform(-1, 1, (STEPS, 4)).astype(np.float32))
    now, change = states[:, :ONE_OBJECT], states[:, ONE_OBJECT:]
    assert not change[0].any()
    assert np.allclose(change[1:], np.diff(now[:, :7], axis=0), atol=1e-6)


def test_the_task_vector_tells_the_goal_and_which_task_it_is(environment: TaskEnvironment) -> None:
    drawn = {tuple(environment.reset(seed)[1][3:].tolist()) for seed in range(16)}
    assert drawn == {(1.0, 0.0), (0.0, 1.0)}
    door = TaskEnvironment(config(options={"task": "door-open"}))
    goals = [door.reset(seed)[1] for seed in range(4)]
    assert all(goal[3:].tolist() == [1.0, 0.0] for goal in goals)
    assert len({tuple(goal[:3].tolist()) for goal in goals}) == 4
    door.reset(0)
    assert all(np.array_equal(door.step(np.zeros(4, np.float32))[1], goals[0]) for _ in range(5))


@pytest.mark.parametrize("task", METAWORLD_TASKS)
def test_scripted_policies_succeed_and_success_is_the_only_reward_and_the_end(task: str) -> None:
    pytest.importorskip("metaworld")
    environment, policy = TaskEnvironment(config((task,))), scripted_policy(task)
    successes = 0
    for seed in range(5):
        environment.reset(seed)
        while True:
            action = policy(environment.env.unwrapped.frames)  # type: ignore[attr-defined]
            _, _, reward, terminated, truncated, success = environment.step(action.astype(np.float32))
            assert (reward, terminated) == (float(bool(success)), success)
            if terminated or truncated:
                break
        successes += terminated
    assert successes >= 4


def test_a_shift_is_of_every_task_and_a_wider_region_of_goals_is_as_high_as_it_was(environment: TaskEnvironment) -> None:
    door = config(("door-open",))
    real, same, wide = (TaskEnvironment(door, shift=ShiftConfig(goal_region=factor, damping=damping)) for factor, damping in ((1, 1), (1, 2), (3, 1)))
    goals = [np.stack([made.reset(seed)[1][:3] for seed in range(10)]) for made in (real, same, wide)]
    assert np.array_equal(goals[0], goals[1])
    np.testing.assert_allclose(goals[2] - goals[2][0], [3, 3, 1] * (goals[0] - goals[0][0]), atol=1e-5)
    assert np.ptp(goals[0][:, :2], axis=0).min() > 0.05
    smooth = TaskEnvironment(config(), shift=ShiftConfig(friction=0.5))
    for seed in range(8):
        environment.reset(seed)
        smooth.reset(seed)
        frictions = [made.env.unwrapped._simulation.model.geom_friction for made in (environment, smooth)]  # type: ignore[attr-defined]
        np.testing.assert_allclose(frictions[1], frictions[0] / 2)


def test_unknown_tasks_are_refused(environment: TaskEnvironment) -> None:
    with pytest.raises(UserError, match="no task 'door-opens', did you mean door-open"):
        TaskEnvironment(config(("door-opens",)))
    with pytest.raises(UserError, match="no task 'hammer', only door-open, button-press-topdown"):
        TaskEnvironment(config(options={"task": "hammer"})).reset(0)


def test_collected_episodes_are_of_all_tasks_alike(environment: TaskEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    make("toys/metaworld-v0", config(), CollectConfig(transitions=600, action_noise=0.1))
    data = convert(open_dataset("toys/metaworld-v0"), lambda n: None)
    environment.require_fit(data.spec, "the data")
    assert data.num_transitions == 600
    assert data.spec.reward_values == (0.0, 1.0)
    assert data.episode_terminated[:-1].all()
    shares = [data.episode_lengths[data.tasks[:, 3 + i] == 1].sum() for i in range(len(TASKS))]
    assert sum(shares) == 600
    assert abs(shares[0] - shares[1]) <= max(data.episode_lengths)
