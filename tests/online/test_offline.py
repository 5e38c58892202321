"""Imagination beside offline data in the share that was asked for, and learning from both with no env step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import toys
from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.evaluate import Evaluator
from atradiff.agents.make import make_agent
from atradiff.data.environment import TaskEnvironment
from atradiff.data.store import OfflineData
from atradiff.diffusion.denoiser import Denoiser
from atradiff.numbers import NotFinite
from atradiff.online.offline import Beside, OfflineConfig, OfflineTrainer, offline_plan, synthetic_transitions
from atradiff.online.plan import Phase
from atradiff.online.starts import OfflineStarts
from atradiff.replay.buffer import Buffer
from atradiff.replay.mixed import MixedReplay, ReplayConfig
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.length_estimator import LengthEstimator
from atradiff.synthesis.synthesizer import SynthesisConfig, Synthesizer
from atradiff.trajectory import Source

CONFIG = AgentConfig(algorithm="td3bc", width=16, depth=1, batch_size=20, utd_ratio=2, imitation_weight=0.0)


def stored(offline: OfflineData) -> Buffer:
    buffer = Buffer(offline.num_transitions, 4, 2, 3, 0.99, source=Source.OFFLINE)
    for trajectory in offline.trajectories():
        buffer.add_trajectory(trajectory)
    return buffer


@pytest.fixture
def synthesizer(trained_denoisers: list[Denoiser], trained_estimator: LengthEstimator) -> Synthesizer:
    return Synthesizer(DenoiserBank(trained_denoisers), trained_estimator, SynthesisConfig(), epsilon=0.0, time_limit=12)


@pytest.mark.parametrize("ratio", [0.2, 0.5])
def test_the_share_is_the_one_asked_for(offline: OfflineData, synthesizer: Synthesizer, reach: TaskEnvironment, ratio: float) -> None:
    """But for the last trajectory; all tasks are those of resets, and some trajectories begin in states of the data."""
    wanted, heard = synthetic_transitions(ratio, offline.num_transitions), list[int]()
    buffer = Buffer(wanted + 20, 4, 2, 3, 0.99, source=Source.IMAGINED)
    beside = Beside(wanted, synthesizer, reach, OfflineStarts(offline, 0.5, "task", np.zeros(0, np.float32)))
    beside(buffer, 0, lambda imagined: heard.append(len(imagined.trajectory)))
    assert buffer.added / (buffer.added + offline.num_transitions) == pytest.approx(ratio, abs=12 / offline.num_transitions)
    assert sum(heard) == buffer.added >= wanted
    observations = buffer.last(buffer.added).observation.numpy()
    begun = {tuple(state) for state in offline.states.round(5).tolist()}
    from_data = np.mean([tuple(row) in begun for row in observations[:, :2].round(5).tolist()])
    assert 0 < from_data < 0.5
    again = Buffer(wanted + 20, 4, 2, 3, 0.99)
    beside(again, 0, lambda imagined: None)
    assert np.array_equal(again.last(again.added).reward, buffer.last(buffer.added).reward)


def test_an_agent_that_diverges_is_told(offline: OfflineData, reach: TaskEnvironment) -> None:
    data = stored(offline)
    data._data.reward[:] = float("nan")
    empty = [Buffer(4, 4, 2, 3, 0.99) for _ in range(2)]
    replay = MixedReplay(ReplayConfig(synthetic_ratio=0.0, offline_ratio=1.0), *empty, data)
    trainer = OfflineTrainer(Evaluator(toys.REACH, 2, seed=0), make_agent(reach.spec, CONFIG, toys.generator()), replay, None, OfflineConfig(), seed=0)
    with pytest.raises(NotFinite, match="the agent"):
        trainer.learn(2, lambda steps: None)


@pytest.mark.parametrize("imagines", [True, False])
def test_an_agent_learns_from_both_in_that_share(offline: OfflineData, reach: TaskEnvironment, imagines: bool) -> None:
    ratio = 0.25 if imagines else 0.0
    synthetic = Buffer(50, 4, 2, 3, 0.99, source=Source.IMAGINED)
    if imagines:
        synthetic.add_trajectory(toys.line_trajectory(12, terminated=False))
    config = ReplayConfig(synthetic_ratio=ratio, offline_ratio=1 - ratio, synthetic_batch_ratio=ratio)
    replay = MixedReplay(config, Buffer(4, 4, 2, 3, 0.99), synthetic, stored(offline))
    drawn = replay.sample(40, toys.generator()).source
    assert int((drawn == Source.IMAGINED).sum()) == round(40 * ratio)
    assert int((drawn == Source.OFFLINE).sum()) == 40 - round(40 * ratio)
    rows = []
    for _ in range(2):
        agent = make_agent(reach.spec, CONFIG, toys.generator())
        trainer = OfflineTrainer(Evaluator(toys.REACH, 2, seed=0), agent, replay, None, OfflineConfig(), seed=0)
        steps = list[int]()
        trainer.learn(5, steps.append)
        assert steps == [2, 4, 5]
        rows.append({key: value for key, value in trainer.evaluate().items() if not key.startswith("time/")})
    assert rows[0] == rows[1]
    assert rows[0]["gradient_steps"] == 6
    assert rows[0]["replay/synthetic_share"] == pytest.approx(12 / (12 + offline.num_transitions) if imagines else 0.0)
    other = OfflineTrainer(Evaluator(toys.REACH, 2, seed=0), make_agent(reach.spec, replace(CONFIG), toys.generator()), replay, None, OfflineConfig(), seed=1)
    other.learn(5, steps.append)
    assert other.evaluate()["agent/critic/loss"] != rows[0]["agent/critic/loss"]


def test_the_plan_imagines_first_and_ends_where_it_should() -> None:
    config = OfflineConfig(gradient_steps=25, evaluate_every=10, synthetic_ratio=0.5)
    whole = list(offline_plan(config))
    assert whole[:3] == [Phase("imagine", 0), Phase("checkpoint", 0), Phase("learn", 10)]
    assert [phase.steps for phase in whole if phase.kind == "evaluate"] == [10, 20, 25]
    assert whole[-1] == Phase("checkpoint", 25)
    for done, phase in enumerate(whole, start=1):
        assert list(offline_plan(config, phase)) == whole[done:]
    assert next(offline_plan(config, Phase("learn", 13))) == Phase("learn", 20)
    assert next(offline_plan(replace(config, synthetic_ratio=0.0))) == Phase("learn", 10)
