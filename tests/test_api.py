"""The public Python interface: what the documentation promises of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import toys
from atradiff.api import ImaginingReplay, ReplayConfig, Synthesizer, Trajectory
from atradiff.data.environment import TaskEnvironment
from atradiff.diffusion.denoiser import Denoiser
from atradiff.errors import UserError
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.length_estimator import LengthEstimator
from atradiff.synthesis.synthesizer import SynthesisConfig
from atradiff.synthesis.synthesizer import Synthesizer as Inner
from atradiff.trajectory import Source
from projects import write_params

CONFIG = ReplayConfig(synthetic_ratio=0.5, n_step=3, online_capacity=1_000, synthetic_capacity=1_000)


@pytest.fixture
def synthesizer(trained_denoisers: list[Denoiser], trained_estimator: LengthEstimator) -> Synthesizer:
    inner = Inner(DenoiserBank(trained_denoisers), trained_estimator, SynthesisConfig(), epsilon=0.0, time_limit=12)
    params = replace(Params(), synthesis=SynthesisConfig(batch_size=4))
    return Synthesizer(inner, params)


def walk(replay: ImaginingReplay, steps: int) -> None:
    """Random steps of `toys.Reach`."""
    environment, random = TaskEnvironment(toys.REACH), np.random.default_rng(0)
    state, task = environment.reset(0)
    for step in range(steps):
        action = random.uniform(-1, 1, 2).astype(np.float32)
        next_state, _, reward, terminated, truncated, _ = environment.step(action)
        replay.add(state, task, action, reward, next_state, terminated, truncated)
        state, task = environment.reset(step) if terminated or truncated else (next_state, task)


def test_environments_that_take_turns_have_targets_of_their_own(synthesizer: Synthesizer) -> None:
    replay = ImaginingReplay(synthesizer, replace(CONFIG, synthetic_ratio=0.0), discount=0.5)
    task, action = np.zeros(2, np.float32), np.zeros(2, np.float32)
    for step in range(4):
        for environment, sign in enumerate((1.0, -1.0)):
            here, there = (np.full(2, sign * at, np.float32) for at in (step, step + 1))
            replay.add(here, task, action, sign, there, False, False, environment)
    first, second = (replay.mixed.online.at(torch.arange(environment, 8, 2)) for environment in (0, 1))
    assert first.reward.tolist() == [1.75, 1.75, 1.5, 1.0]
    assert first.next_observation[:, 0].tolist() == [3, 4, 4, 4]
    assert torch.equal(second.reward, -first.reward)
    assert torch.equal(second.next_observation, -first.next_observation)


def test_a_project_imagines_from_one_state_or_many(online_project: Layout) -> None:
    synthesizer = Synthesizer.load(online_project.root, seed=3)
    states, task = np.zeros((3, synthesizer.spec.state_dim)), np.array([-1.0, 1.0])
    trajectories = synthesizer(states, task)
    assert len(trajectories) == 3
    for trajectory in trajectories:
        assert isinstance(trajectory, Trajectory)
        assert np.array_equal(trajectory.states[0], np.float32(states[0]))
        assert np.array_equal(trajectory.task, np.float32(task))
        assert len(trajectory.states) == len(trajectory) + 1
    again = Synthesizer.load(str(online_project.root), seed=3)(states, task)
    assert all(np.array_equal(a.states, b.states) for a, b in zip(trajectories, again, strict=True))
    assert len(synthesizer(states[0], task)) == 1


def test_wrong_sizes_and_a_project_without_models_are_refused(synthesizer: Synthesizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"states and tasks have sizes \(3, 0\), but those of the project's data have \(2, 2\)"):
        synthesizer(np.zeros((1, 3), np.float32))
    write_params(tmp_path, Params())
    with pytest.raises(UserError, match="offline stages are not ready"):
        Synthesizer.load(tmp_path)


def test_the_replay_keeps_the_share_and_mixes_its_batches(synthesizer: Synthesizer) -> None:
    replay = ImaginingReplay(synthesizer, CONFIG)
    walk(replay, 400)
    assert replay.mixed.synthetic_share == pytest.approx(0.5, abs=0.04)  # up to three requests are still waiting
    assert len(replay) == len(replay.mixed.online) + len(replay.mixed.synthetic)
    batch = replay.sample(40)
    assert [int((batch.source == source).sum()) for source in Source] == [20, 20, 0]
    same = ImaginingReplay(Synthesizer(synthesizer.inner, synthesizer.params), CONFIG)
    walk(same, 400)
    assert all((a == b).all() for a, b in zip(batch, same.sample(40), strict=True))


def test_actions_are_stored_in_the_unit_range_if_asked(synthesizer: Synthesizer) -> None:
    spec = replace(synthesizer.spec, action_low=(0.0, -3.0), action_high=(4.0, 1.0))

    class Shifted(Synthesizer):
        spec = property(lambda self: spec)

    replays = [ImaginingReplay(Shifted(synthesizer.inner, synthesizer.params), CONFIG, unit_actions=unit) for unit in (False, True)]
    for replay in replays:
        replay.imagine(np.zeros((5, 2)), np.array([0.5, 0.5]))
    plain, unit = (replay.mixed.synthetic.last(20).action.numpy() for replay in replays)
    assert np.allclose(unit, (plain - [2, -1]) / [2, 2], atol=1e-6)


def test_a_warm_start_does_not_count_in_the_share(synthesizer: Synthesizer) -> None:
    replay = ImaginingReplay(synthesizer, CONFIG)
    replay.imagine(np.zeros((8, 2)), np.array([0.5, 0.5]))
    assert len(replay.mixed.synthetic) > 0
    walk(replay, 1)
    assert replay.mixed.synthetic_share == 0
    assert set(replay.sample(8).source.tolist()) == {int(Source.ONLINE), int(Source.IMAGINED)}
