"""Environments as the project sees them, the oracle, and what a user may get wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import toys
from atradiff.data.environment import EnvironmentConfig, Oracle, TaskEnvironment, box_actions, flatten, split_observation, whole_kwargs
from atradiff.errors import UserError


def test_nested_dicts_flatten_in_the_spaces_order() -> None:
    space = spaces.Dict({"b": spaces.Box(0, 9, (2, 2), np.float32), "a": spaces.Dict({"c": spaces.Box(0, 9, (1,), np.float32)})})
    value = {"a": {"c": np.float32([5])}, "b": np.float32([[1, 2], [3, 4]])}
    order = [n for key in space.spaces for n in ([5] if key == "a" else [1, 2, 3, 4])]
    assert flatten(space, value).tolist() == order
    stacked = {"a": {"c": np.float32([[5], [6]])}, "b": np.zeros((2, 2, 2), np.float32)}
    assert flatten(space, stacked, (2,)).shape == (2, 5)


def test_goal_observations_are_state_and_task() -> None:
    space = spaces.Dict({"observation": toys.BOX2, "achieved_goal": toys.BOX2, "desired_goal": toys.BOX2})
    value = {"observation": np.float32([1, 2]), "achieved_goal": np.float32([3, 4]), "desired_goal": np.float32([5, 6])}
    state, task = split_observation(space, value)
    assert (state.tolist(), task.tolist()) == ([1, 2], [5, 6])


def test_only_boxes_are_flattened() -> None:
    with pytest.raises(UserError, match="MultiDiscrete is not supported"):
        flatten(spaces.Dict({"a": spaces.MultiDiscrete([2, 2])}), {"a": [0, 1]})


@pytest.mark.parametrize("space", [spaces.Discrete(2), spaces.Box(-1, 1, (2, 2)), spaces.Box(-np.inf, 1, (2,))])
def test_actions_must_be_flat_bounded_boxes(space: spaces.Space) -> None:
    with pytest.raises(UserError, match="here has"):
        box_actions(space, "here")


def test_steps_and_resets(reach: TaskEnvironment) -> None:
    assert (reach.spec.state_dim, reach.spec.action_dim, reach.spec.task_dim) == (2, 2, 2)
    first, again = reach.reset(3), reach.reset(3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    state, task, reward, terminated, truncated, success = reach.step(np.float32([1, 0]))
    assert np.allclose(state, np.clip(first[0] + [0.1, 0], -1, 1))
    assert np.array_equal(task, first[1])
    assert (reward, terminated, truncated, success) == (0.0, False, False, False)


def test_terminated_and_truncated_stay_apart() -> None:
    config = replace(toys.REACH, reset_options={"start": [0.0, 0.0], "goal": [0.5, 0.0]}, max_episode_steps=4)
    environment = TaskEnvironment(config)
    environment.reset(0)
    towards = [environment.step(np.float32([1, 0]))[2:] for _ in range(4)]
    assert towards[-1] == (1.0, True, True, True)  # both at once is possible; the termination counts
    environment.reset(0)
    away = [environment.step(np.float32([-1, 0]))[3:5] for _ in range(4)]
    assert away == [(False, False)] * 3 + [(False, True)]


def test_unknown_environments_and_bad_kwargs() -> None:
    with pytest.raises(UserError, match=r"'toys/Nothing-v0' cannot be made"):
        TaskEnvironment(replace(toys.REACH, id="toys/Nothing-v0"))
    with pytest.raises(UserError, match=r"'nowhere:Nothing-v0' cannot be made .* that module must be found from here"):
        TaskEnvironment(replace(toys.REACH, id="nowhere:Nothing-v0"))
    with pytest.raises(UserError, match="check its id and kwargs"):
        TaskEnvironment(replace(toys.REACH, kwargs={"gravity": 3}))


def test_discrete_environments_are_refused() -> None:
    with pytest.raises(UserError, match="CartPole-v1' has the action space"):
        TaskEnvironment(EnvironmentConfig("CartPole-v1"))


def test_data_of_another_shape_is_refused(reach: TaskEnvironment) -> None:
    reach.require_fit(toys.SPEC, "the data")
    with pytest.raises(UserError, match=r"the data has .* \(4, 2, 2\), but the environment toys/Reach-v0 has \(2, 2, 2\)"):
        reach.require_fit(replace(toys.SPEC, state_dim=4), "the data")


def test_the_oracle_agrees_with_the_environment(reach: TaskEnvironment) -> None:
    """Relabelling real steps gives the rewards and terminations that really came."""
    oracle, random = Oracle(reach), np.random.default_rng(0)
    told = 0.0
    for seed in range(40):
        state, task = reach.reset(seed)
        for _ in range(12):
            action = np.clip((task - state) / toys.STEP + 0.3 * random.standard_normal(2), -1, 1).astype(np.float32)
            state, task, reward, terminated, truncated, _ = reach.step(action)
            rewards, ends = oracle(state[None], task)
            assert (rewards[0], ends[0]) == (reward, terminated)
            told += reward
            if terminated or truncated:
                break
    assert told > 5


def test_the_oracle_needs_a_goal(reach: TaskEnvironment) -> None:
    with pytest.raises(UserError, match=r"needs task\.environment\.achieved_goal, and a goal environment"):
        Oracle(TaskEnvironment(replace(toys.REACH, achieved_goal=())))
    with pytest.raises(UserError, match="Pendulum-v1 offers none"):
        Oracle(TaskEnvironment(EnvironmentConfig("Pendulum-v1", achieved_goal=(0,))))


def test_the_oracle_is_not_asked_for_ends_that_the_environment_cannot_tell(reach: TaskEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in goal environments that were made for hindsight alone."""
    assert Oracle.knows(reach)
    monkeypatch.delattr(toys.Reach, "compute_terminated")
    assert not Oracle.knows(reach)
    with pytest.raises(UserError, match="has compute_reward and compute_terminated"):
        Oracle(reach)


def test_keyword_arguments_of_the_registration_count_as_given() -> None:
    """A dataset recorded by another hand may name them all: it is the same environment."""
    short = whole_kwargs("PointMaze_UMaze-v3", {"continuing_task": False})
    assert short == whole_kwargs("PointMaze_UMaze-v3", gym.spec("PointMaze_UMaze-v3").kwargs | {"continuing_task": False})
    assert short != whole_kwargs("PointMaze_UMaze-v3", {})
    assert whole_kwargs("nobody/Knows-v0", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("environment", ["Hopper-v5", "PointMaze_UMaze-v3"])
def test_a_renderer_that_cannot_be_loaded_is_told_in_a_sentence(environment: str) -> None:
    make = f"""
from atradiff.data.environment import EnvironmentConfig, TaskEnvironment
from atradiff.errors import UserError
try:
    TaskEnvironment(EnvironmentConfig({environment!r}))
except UserError as error:
    print(error)
"""
    process = subprocess.run([sys.executable, "-c", make], env={**os.environ, "MUJOCO_GL": "nothing"}, capture_output=True, text=True, check=True)
    assert process.stdout.startswith("there is no renderer (MUJOCO_GL is nothing: invalid value")
