"""The ant that a script walks through a maze."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from atradiff.data.ant_controller import AntController
from atradiff.data.collect import CollectConfig, Quality, collecting_environment, play_episode
from atradiff.data.environment import TaskEnvironment
from atradiff.data.skill import scripted_controller
from atradiff.params.presets import preset
from atradiff.trajectory import Array

TASK = preset("antmaze-umaze").task


@pytest.fixture(scope="module")
def environment() -> Iterator[TaskEnvironment]:
    environment = collecting_environment(TASK.environment)
    yield environment
    environment.close()


def upright(observation: Array) -> Array:
    """Height of a unit vector along the body's own vertical `[...]`: 1 on its feet, -1 on its back."""
    return 1 - 2 * (observation[..., 2] ** 2 + observation[..., 3] ** 2)


def test_the_ant_walks_to_a_goal_on_its_feet_and_keeps_its_heading(environment: TaskEnvironment) -> None:
    """Two cells of four metres each at most, in 250 env steps."""
    generator = np.random.default_rng(2)
    controller = AntController(environment, replace(TASK.collect, maximum_cells=2))
    for _ in range(2):
        episode = play_episode(environment.env, controller, generator, 250)
        observations = cast("dict[str, Array]", episode.observations)
        assert episode.terminations[-1]
        assert episode.rewards[-1] == 1
        assert np.linalg.norm(observations["achieved_goal"][-1] - observations["desired_goal"][-1]) <= 0.45
        assert upright(observations["observation"]).min() > 0.5
        assert np.abs(observations["observation"][:, 4]).max() < np.sin(np.pi / 8)


def test_an_ant_on_its_back_gets_up(environment: TaskEnvironment) -> None:
    """Mostly within ten seconds, 200 env steps: rocking oneself over is a matter of luck."""
    generator = np.random.default_rng(0)
    controller = AntController(environment, TASK.collect)
    ant = cast("Any", environment.env.unwrapped).ant_env
    up = 0
    for seed in range(6):
        observation, _ = environment.env.reset(seed=seed, options=controller.begin(generator))
        lying = ant.data.qpos.copy()
        lying[2:7] = [0.4, 0, 1, 0, 0]
        ant.set_state(lying, ant.data.qvel * 0)
        heights = [-1.0]
        while heights[-1] < 0.7 and len(heights) < 200:
            observation, *_ = environment.env.step(controller.act(observation, generator))
            heights.append(float(upright(observation["observation"])))
        assert heights[1] < -0.9
        up += heights[-1] >= 0.7
    assert up >= 3


@pytest.mark.parametrize("quality", ["noisy", "expert", "medium", "medium-replay", "random"])
def test_every_level_is_the_script_with_a_share_of_random_actions(quality: Quality, environment: TaskEnvironment) -> None:
    """No agent has to learn first, and episodes begin in cells of their own."""
    collect = preset("antmaze-umaze", quality).task.collect
    assert (collect.quality, collect.training_steps, collect.transitions) == (quality, None, CollectConfig().transitions)
    controller = scripted_controller(environment, collect)
    assert controller is not None
    assert controller.algorithm.startswith(AntController.algorithm)
    assert ("random" in controller.algorithm) == (quality not in ("noisy", "expert"))
    assert set(controller.begin(np.random.default_rng(0))) == {"reset_cell", "goal_cell"}
