"""What is made for offline learning learns `toys.Balance` from stored episodes alone, and goes on from there online.

The episodes come from a weak controller with noise. The measure is that of `test_dense`: 0 is doing nothing, 1 Riccati's optimum. Two things
were demanded before any of these had been run: at least 0.9, and more than the controller itself has without its noise. The budgets, and that
Cal-QL needs a smaller weight here than it has by default, come from runs with seeds 100 and 101.
There are half as many gradient steps again as those had, since on another processor, which rounds otherwise, Cal-QL missed by 0.001.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import toys
from atradiff.agents.actor_critic import ActorCritic, AgentConfig
from atradiff.agents.evaluate import Evaluator
from atradiff.agents.make import make_agent
from atradiff.agents.take_over import take_over
from atradiff.data.environment import TaskEnvironment
from atradiff.online.offline import OfflineConfig, OfflineTrainer
from atradiff.online.plan import OnlineConfig, plan
from atradiff.online.seeds import make_generator
from atradiff.online.trainer import Trainer
from atradiff.params.algorithms import OFFLINE_ALGORITHMS
from atradiff.replay.buffer import Buffer
from atradiff.replay.mixed import MixedReplay, ReplayConfig
from atradiff.trajectory import Array, Source, Trajectory

DEMANDED = 0.9
GRADIENT_STEPS, ENV_STEPS = 3_000, 300
TASK = AgentConfig(width=64, batch_size=64, critic_learning_rate=1e-3, actor_learning_rate=1e-3, conservative_weight=1.0, conservative_actions=4)


class Weak:
    """Pushes against the position alone, and too little."""

    def act(self, observations: Array, generator: object) -> Array:
        return np.clip(-0.25 * observations[:, :1], -1, 1).astype(np.float32)


class Idle:
    """Never pushes."""

    def act(self, observations: Array, generator: object) -> Array:
        return np.zeros((len(observations), 1), np.float32)


@cache
def offline_buffer(episodes: int = 200) -> Buffer:
    """What all of them learn from, and nobody changes."""
    environment, random = TaskEnvironment(toys.BALANCE), np.random.default_rng(0)
    buffer = Buffer(episodes * toys.BALANCE.max_episode_steps, 2, 1, 1, TASK.discount, source=Source.OFFLINE)
    for episode in range(episodes):
        states, actions, rewards = [environment.reset(episode)[0]], [], []
        for _ in range(toys.BALANCE.max_episode_steps):
            actions.append(np.clip(Weak().act(states[-1][None], None)[0] + 0.4 * random.standard_normal(1), -1, 1).astype(np.float32))
            state, _, reward, *_ = environment.step(actions[-1])
            states.append(state)
            rewards.append(reward)
        buffer.add_trajectory(Trajectory(np.stack(states), np.stack(actions), np.float32(rewards), np.zeros(0, np.float32), False, True))
    return buffer


def agent_by(name: str, seed: int) -> ActorCritic:
    settings = {key.removeprefix("agent."): value for key, value in OFFLINE_ALGORITHMS[name].settings.items()}
    return make_agent(TaskEnvironment(toys.BALANCE).spec, replace(TASK, **settings), make_generator(seed, "agent"))


@cache
def learned_offline(name: str, seed: int = 0) -> ActorCritic:
    agent = agent_by(name, seed)
    buffers = [Buffer(2, 2, 1, 1, TASK.discount) for _ in range(2)]
    replay = MixedReplay(ReplayConfig(synthetic_ratio=0.0, offline_ratio=1.0, n_step=1), *buffers, offline_buffer())
    OfflineTrainer(Evaluator(toys.BALANCE, 1, seed=0), agent, replay, None, OfflineConfig(), seed).learn(GRADIENT_STEPS, lambda steps: None)
    return agent


def share(evaluator: Evaluator, policy: object) -> float:
    """How far a policy gets on the way from doing nothing to the optimum."""
    starts = [env.reset(start)[0] for env, start in zip(evaluator.environments, evaluator.seeds, strict=True)]
    best, nothing = float(np.mean([toys.best_balance(start) for start in starts])), evaluator(Idle()).episode_return
    return (evaluator(policy).episode_return - nothing) / (best - nothing)  # type: ignore[arg-type]


@pytest.fixture
def evaluator() -> Evaluator:
    return Evaluator(toys.BALANCE, 20, seed=0)


@pytest.mark.parametrize("name", ["td3bc", "iql", "calql"])
def test_it_is_learned_from_stored_episodes(name: str, evaluator: Evaluator) -> None:
    assert max(DEMANDED, share(evaluator, Weak())) <= share(evaluator, learned_offline(name)) <= 1


@pytest.mark.parametrize(("name", "then"), [("iql", "pex"), ("iql", "iql"), ("calql", "calql"), ("td3bc", "td3bc")])
def test_what_was_learned_is_carried_online_and_kept(name: str, then: str, evaluator: Evaluator) -> None:
    """Without a dip before the first env step, and with at least the demanded share after some."""
    learned, agent = learned_offline(name), agent_by(then, seed=1)
    take_over(agent, learned.config, learned.state_dict(), "the offline agent")
    buffers = [Buffer(size, 2, 1, 1, TASK.discount) for size in (5_000, 2)]
    replay = MixedReplay(ReplayConfig(synthetic_ratio=0.0, offline_ratio=0.5, n_step=1), *buffers, offline_buffer())
    online = OnlineConfig(env_steps=ENV_STEPS, evaluate_every=ENV_STEPS, warm_start_gradient_steps=0)
    trainer = Trainer([TaskEnvironment(toys.BALANCE)], evaluator, agent, replay, None, online, seed=0)
    if then != "pex":  # it begins with two policies, one of which knows nothing
        observations = torch.randn(50, 2, generator=toys.generator()).numpy()
        assert np.array_equal(agent.act(observations, None), learned.act(observations, None))
    for phase in plan(online, adapt_every=0):
        if phase.kind == "collect_and_update":
            trainer.run_phase(phase)
    assert agent.gradient_steps > learned.gradient_steps
    assert DEMANDED <= share(evaluator, agent) <= 1
