"""SAC and TD3 beside Stable-Baselines3: from equal weights, batches and noise come equal targets, losses and weights, update for update."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

import toys
from atradiff.agents.actor_critic import ActorCritic, AgentConfig
from atradiff.agents.fused import FusedSAC
from atradiff.agents.make import make_agent
from atradiff.agents.sac import SAC
from atradiff.bench.peers import Shapes
from atradiff.replay.buffer import Buffer
from atradiff.trajectory import TransitionBatch
from reference.side_by_side import BATCH, CLOSE, DISCOUNT, SPEC, assert_same_weights, copy_weights, feed_noise, linears, make_batch

UPDATES, N_STEP = 5, 4
TAU = 0.05
COMMON: dict[str, Any] = {"width": 32, "batch_size": BATCH, "utd_ratio": 1, "layer_norm": False, "tau": TAU, "imitation_weight": 0.0}
SAC_CONFIG = AgentConfig(**COMMON, actor_value="min", backup_entropy=True, target_entropy_scale=1.0, initial_temperature=0.3)
TD3_CONFIG = AgentConfig(**COMMON, algorithm="td3", actor_value="first")


def peer(agent: ActorCritic, algorithm: type, **settings: Any) -> Any:
    """Stable-Baselines3's agent with the weights of ours."""
    model = algorithm(
        "MlpPolicy", Shapes(SPEC), policy_kwargs={"net_arch": [32, 32]}, learning_rate=3e-4, batch_size=BATCH, gamma=DISCOUNT, tau=TAU,
        learning_starts=0, device="cpu", **settings,
    )  # fmt: skip
    model.set_logger(Logger(None, []))
    copy_weights(agent.actor.net, 0, linears(model.actor))  # type: ignore[attr-defined]
    for member in range(2):
        for ours, theirs in ((agent.critic, model.critic), (agent.target_critic, model.critic_target)):
            copy_weights(ours.net, member, linears(theirs.q_networks[member]))
    return model


def samples(batch: TransitionBatch) -> ReplayBufferSamples:
    """Our batch in their words."""
    ends = (batch.discount == 0).float()
    columns = (column[:, None] for column in (ends, batch.reward, batch.discount))
    return ReplayBufferSamples(batch.observation, batch.action, batch.next_observation, *columns)


def train(model: Any, batch: TransitionBatch, patch: pytest.MonkeyPatch) -> tuple[dict[str, float], Tensor]:
    """One update of theirs; their losses, and the targets that they learned from."""
    targets: list[Tensor] = []
    loss = torch.nn.functional.mse_loss

    def watched(values: Tensor, target: Tensor) -> Tensor:
        targets.append(target)
        return loss(values, target)

    with patch.context() as inside:
        inside.setattr(torch.nn.functional, "mse_loss", watched)
        inside.setattr(model.replay_buffer, "sample", lambda *args, **kwargs: samples(batch))
        model.train(gradient_steps=1, batch_size=BATCH)
    return dict(model.logger.name_to_value), targets[0][:, 0]


def assert_same_agents(agent: ActorCritic, model: Any) -> None:
    assert_same_weights(agent.actor.net, 0, linears(model.actor))  # type: ignore[attr-defined]
    for member in range(2):
        assert_same_weights(agent.critic.net, member, linears(model.critic.q_networks[member]))
        assert_same_weights(agent.target_critic.net, member, linears(model.critic_target.q_networks[member]))


@pytest.mark.parametrize("kind", [SAC, FusedSAC])
def test_sac(kind: type[SAC], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their temperature's loss is log(alpha) (entropy - target), ours alpha (...), as in the paper (eq. 18): the gradients differ by alpha,
    which Adam divides out. Their density has an epsilon against log(0), which is taken from it: ours needs none."""
    sac = kind(SPEC, SAC_CONFIG, toys.generator())
    model = peer(sac, stable_baselines3.SAC, ent_coef="auto_0.3")
    model.actor.action_dist.epsilon = 0.0
    for update in range(UPDATES):
        batch, seed = make_batch(update, N_STEP), 100 + update
        noise = toys.generator(seed)
        of_target, of_actor = (torch.randn(BATCH, SPEC.action_dim, generator=noise) for _ in range(2))
        feed_noise(monkeypatch, iter([of_actor, of_target]))  # they ask the actor first
        alpha = sac.log_temperature.exp().item()
        theirs, their_targets = train(model, batch, monkeypatch)
        targets = sac.targets(batch, toys.generator(seed))
        logs = {name: float(value) for name, value in sac.update(batch, toys.generator(seed)).items()}
        assert torch.allclose(targets, their_targets, atol=CLOSE, rtol=0)
        assert logs["critic/loss"] == pytest.approx(theirs["train/critic_loss"], abs=CLOSE)
        assert logs["actor/loss"] == pytest.approx(theirs["train/actor_loss"], abs=CLOSE)
        of_temperature = alpha * (logs["actor/entropy"] - sac.target_entropy)
        assert of_temperature * np.log(alpha) == pytest.approx(alpha * theirs["train/ent_coef_loss"], abs=CLOSE)
        assert sac.log_temperature.item() == pytest.approx(model.log_ent_coef.item(), abs=CLOSE)
        assert_same_agents(sac, model)


def test_td3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a delay, in which their critics' targets would wait for the actor. Their critics' loss is the sum over the two, ours the mean:
    Adam divides that out but for its epsilon, which is doubled for theirs."""
    td3 = make_agent(SPEC, TD3_CONFIG, toys.generator())
    model = peer(td3, stable_baselines3.TD3, policy_delay=1, target_policy_noise=0.2, target_noise_clip=0.5)
    copy_weights(td3.target_actor.net, 0, linears(model.actor_target))  # type: ignore[attr-defined]
    model.critic.optimizer.param_groups[0]["eps"] *= 2
    for update in range(UPDATES):
        batch, seed = make_batch(update, N_STEP), 100 + update
        torch.manual_seed(seed)  # they draw their noise from the global generator
        theirs, their_targets = train(model, batch, monkeypatch)
        targets = td3.targets(batch, toys.generator(seed))
        logs = {name: float(value) for name, value in td3.update(batch, toys.generator(seed)).items()}
        assert torch.allclose(targets, their_targets, atol=CLOSE, rtol=0)
        assert 2 * logs["critic/loss"] == pytest.approx(theirs["train/critic_loss"], abs=CLOSE)
        assert logs["actor/loss"] == pytest.approx(theirs["train/actor_loss"], abs=CLOSE)
        assert_same_agents(td3, model)
        assert_same_weights(td3.target_actor.net, 0, linears(model.actor_target))  # type: ignore[attr-defined]


def test_n_step_targets() -> None:
    """Episodes that terminate, one that the time limit cuts and one that is still open, step by step into both replays."""
    shapes, random = Shapes(SPEC), np.random.default_rng(0)
    ours = Buffer(100, SPEC.observation_dim, SPEC.action_dim, N_STEP, DISCOUNT)
    theirs = NStepReplayBuffer(100, shapes.observation_space, shapes.action_space, device="cpu", n_steps=N_STEP, gamma=DISCOUNT)
    for length, terminated, truncated in ((9, True, False), (2, True, False), (7, False, True), (6, False, False)):
        states = random.standard_normal((length + 1, SPEC.state_dim)).astype(np.float32)
        for t in range(length):
            action, reward, last = random.uniform(-1, 1, SPEC.action_dim).astype(np.float32), float(random.standard_normal()), t == length - 1
            ours.add_step(states[t], action, reward, states[t + 1], last and terminated, last and truncated)
            info = [{"TimeLimit.truncated": last and truncated}]
            theirs.add(states[t], states[t + 1], action, np.array([reward]), np.array([last and (terminated or truncated)]), info)
    found, expected = ours.last(24), theirs._get_samples(np.arange(24))
    assert torch.equal(found.observation, expected.observations)
    assert torch.equal(found.action, expected.actions)
    assert torch.equal(found.next_observation, expected.next_observations)
    assert torch.allclose(found.reward, expected.rewards[:, 0], atol=CLOSE, rtol=0)
    assert torch.allclose(found.discount, (expected.discounts * (1 - expected.dones))[:, 0], atol=CLOSE, rtol=0)
