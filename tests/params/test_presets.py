from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

import toys
from atradiff.data.environment import TaskEnvironment
from atradiff.errors import UserError
from atradiff.params.load import ALLOW_IMPORT
from atradiff.params.presets import preset
from atradiff.params.tasks import MAZES, METAWORLD


@pytest.mark.parametrize("task", MAZES)
def test_a_task_starts_and_ends_where_it_says(task: str) -> None:
    config = preset(task).task.environment
    environment = TaskEnvironment(config)
    maze = environment.env.unwrapped.maze  # type: ignore[attr-defined]
    for seed in range(3):
        state, goal = environment.reset(seed)
        start = maze.cell_rowcol_to_xy(np.asarray(config.reset_options["reset_cell"]))
        end = maze.cell_rowcol_to_xy(np.asarray(config.reset_options["goal_cell"]))
        assert np.abs(state[:2] - start).max() <= 0.25 * maze.maze_size_scaling
        assert np.abs(goal - end).max() <= 0.25 * maze.maze_size_scaling
    environment.close()


@pytest.mark.parametrize("task", MAZES)
def test_a_window_reaches_the_goals_that_its_models_learned_from(task: str) -> None:
    """Either windows aim at the task's goal and learn from episodes alone, or a waypoint is within what hindsight and a horizon span."""
    params = preset(task)
    reach, hindsight, longest = params.synthesis.waypoints.reach, params.task.hindsight, max(params.denoiser.horizons) - 1
    assert (reach > 0) == (hindsight.cover > 0)
    assert reach < longest
    assert reach <= hindsight.maximum_steps
    assert (reach == 0) == (task == "pointmaze-umaze")


def test_meta_worlds_tasks_share_data_and_models_and_differ_in_the_task_alone() -> None:
    presets = [preset(name) for name in METAWORLD]
    options = [params.task.environment.reset_options for params in presets]
    tasks = presets[0].task.environment.kwargs["tasks"]
    assert options == [{"task": task} for task in tasks]
    assert len(tasks) == 6
    for params in presets:
        assert params.task.dataset.id == "local/metaworld/mixed-v0"
        environment = replace(params.task.environment, reset_options=options[0])
        assert replace(params, task=replace(params.task, environment=environment)) == presets[0]


def test_any_other_task_of_meta_world_has_data_of_its_own() -> None:
    task = preset("metaworld-hammer").task
    assert (task.name, task.dataset.id) == ("metaworld-hammer", "local/metaworld/hammer-v0")
    assert (task.environment.kwargs, task.environment.reset_options) == ({"tasks": ["hammer"]}, {"task": "hammer"})


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="choose one of pointmaze-umaze, pointmaze-medium, pointmaze-large"):
        preset("pointmaze-tiny")


def test_a_dataset_that_is_not_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(UserError, match="not on this machine"):
        preset("mine/walk-v0")


def own_dataset(name: str, lengths: list[int], env: gym.Env | None) -> None:
    """A dataset of random walks in the toy environment."""
    random = np.random.default_rng(0)
    space = TaskEnvironment(toys.REACH).env
    buffers = [
        EpisodeBuffer(
            observations={key: random.normal(size=(n + 1, 2)) for key in space.observation_space.spaces},  # type: ignore[attr-defined]
            actions=random.uniform(-1, 1, size=(n, 2)).astype(np.float32),  # type: ignore[arg-type]
            rewards=[0.0] * n,
            terminations=[False] * n,
            truncations=[False] * (n - 1) + [True],
        )
        for n in lengths
    ]
    minari.create_dataset_from_buffers(
        name, buffers, env=env, observation_space=space.observation_space, action_space=space.action_space, algorithm_name="random"
    )


@pytest.mark.filterwarnings("ignore:`.*` is set to None:UserWarning", "ignore:env_spec is None:UserWarning")
def test_a_dataset_of_ones_own_becomes_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    own_dataset("mine/Reach_2d-v0", [20, 40], TaskEnvironment(toys.REACH).env)
    params = preset("mine/Reach_2d-v0")
    assert params.task.name == "mine-reach-2d-v0"
    assert params.task.dataset.id == "mine/Reach_2d-v0"
    assert params.task.environment.id == "toys/Reach-v0"
    assert params.task.environment.max_episode_steps == toys.REACH.max_episode_steps
    assert params.denoiser.horizons == [16, 32]
    assert not params.synthesis.prune.loops

    own_dataset("mine/short-v0", [5, 7], TaskEnvironment(toys.REACH).env)
    assert preset("mine/short-v0").denoiser.horizons == [8]

    own_dataset("mine/nowhere-v0", [20], None)
    with pytest.raises(UserError, match="names no environment"):
        preset("mine/nowhere-v0")


@pytest.mark.filterwarnings("ignore:`.*` is set to None:UserWarning")
def test_an_environment_that_a_module_registers_is_found_by_the_module_once_the_user_trusts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset's own specification has the environment's name alone, also where it was made as MODULE:NAME."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.delenv(ALLOW_IMPORT, raising=False)
    gym.register("away/Reach-v0", "toys:Reach", max_episode_steps=12)
    own_dataset("mine/reach-v0", [20], gym.make("away/Reach-v0"))
    assert preset("mine/reach-v0").task.environment.id == "away/Reach-v0"
    del gym.registry["away/Reach-v0"]
    with pytest.raises(UserError, match="which runs the code of 'toys': if you trust it, say `atradiff --allow-import toys"):
        preset("mine/reach-v0")
    monkeypatch.setenv(ALLOW_IMPORT, "toys")
    assert preset("mine/reach-v0").task.environment.id == "toys:away/Reach-v0"
    assert preset("mine/reach-v0", mixed_with=["mine/reach-v0"]).task.environment.task_id == ()
