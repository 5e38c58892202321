"""REDQ and RLPD beside TorchRL's REDQLoss: from equal weights, batches, noise and subsets come equal losses and gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import Bounded
from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import REDQLoss, SoftUpdate

import toys
from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.networks import EnsembleMLP
from atradiff.agents.sac import SAC
from atradiff.trajectory import TransitionBatch
from reference.side_by_side import BATCH, CLOSE, DISCOUNT, SPEC, copy_weights, feed_noise, linears, make_batch

WIDTH = 32
REDQ = AgentConfig(
    width=WIDTH, num_critics=5, num_min_critics=2, layer_norm=False, batch_size=BATCH, utd_ratio=1, initial_temperature=0.3,
    target_entropy_scale=1.0, backup_entropy=True, imitation_weight=0.0,
)  # fmt: skip


class MeanAndScale(nn.Module):
    """The actor's network, in the words of torch.distributions."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(SPEC.state_dim, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2 * SPEC.action_dim)
        )

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(observation).chunk(2, dim=-1)
        return mean, log_std.exp()


class Value(nn.Module):
    """A critic of its own."""

    def __init__(self, layer_norm: bool) -> None:
        super().__init__()
        norm = nn.LayerNorm(WIDTH, elementwise_affine=False) if layer_norm else nn.Identity()
        inputs = SPEC.state_dim + SPEC.action_dim
        self.net = nn.Sequential(nn.Linear(inputs, WIDTH), norm, nn.ReLU(), nn.Linear(WIDTH, WIDTH), norm, nn.ReLU(), nn.Linear(WIDTH, 1))

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.net(torch.cat([observation, action], dim=-1))


def layers(parameters: Any) -> list[tuple[Tensor, Tensor]]:
    """Weight `[E, out, in]` and bias `[E, out]` of each linear layer, in order."""
    flat = {".".join(key) if isinstance(key, tuple) else key: value for key, value in parameters.items(True, True)}
    names = sorted({key.rpartition(".")[0] for key in flat})
    return [(flat[f"{name}.weight"], flat[f"{name}.bias"]) for name in names]


@torch.no_grad()
def copy_ensemble(net: EnsembleMLP, parameters: Any) -> None:
    for (weight, bias), our_weight, our_bias in zip(layers(parameters), net.weights, net.biases, strict=True):
        weight.copy_(our_weight.mT)
        bias.copy_(our_bias[:, 0])


def peer(sac: SAC) -> REDQLoss:
    """TorchRL's loss with the weights of our agent."""
    network = MeanAndScale()
    copy_weights(sac.actor.net, 0, linears(network))
    actor = ProbabilisticActor(
        TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"]),
        spec=Bounded(-torch.ones(SPEC.action_dim), torch.ones(SPEC.action_dim)), in_keys=["loc", "scale"],
        distribution_class=TanhNormal, return_log_prob=True,
    )  # fmt: skip
    loss = REDQLoss(
        actor, ValueOperator(Value(sac.config.layer_norm), in_keys=["observation", "action"]), num_qvalue_nets=sac.config.num_critics,
        sub_sample_len=sac.config.num_min_critics, loss_function="l2", alpha_init=sac.config.initial_temperature,
    )  # fmt: skip
    loss.make_value_estimator(gamma=DISCOUNT)
    SoftUpdate(loss, tau=sac.config.tau)  # without one it warns
    copy_ensemble(sac.critic.net, loss.qvalue_network_params)
    copy_ensemble(sac.target_critic.net, loss.target_qvalue_network_params)
    return loss


def samples(batch: TransitionBatch) -> TensorDict:
    """Our batch in their words."""
    ends = (batch.discount == 0)[:, None]
    following = {"observation": batch.next_observation, "reward": batch.reward[:, None], "done": ends, "terminated": ends}
    return TensorDict({"observation": batch.observation, "action": batch.action, "next": following}, batch_size=[BATCH])


@pytest.mark.parametrize("layer_norm", [False, True], ids=["redq", "rlpd"])
def test_losses_and_gradients(layer_norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sac = SAC(SPEC, replace(REDQ, layer_norm=layer_norm), toys.generator())
    with torch.no_grad():
        for parameter in sac.target_critic.parameters():  # so that the targets are told from the critics
            parameter.mul_(1.2)
    loss, batch = peer(sac), make_batch()
    random = toys.generator(7)
    of_target, subset, of_actor = torch.randn(BATCH, 2, generator=random), torch.randperm(5, generator=random), torch.randn(BATCH, 2, generator=random)
    feed_noise(monkeypatch, iter([torch.stack([of_actor, of_target])]))
    monkeypatch.setattr(torch, "randperm", lambda count: subset)
    theirs = loss(samples(batch))
    monkeypatch.undo()

    random = toys.generator(7)
    critic_loss, _ = sac.critic_loss(batch, random)
    actor_loss, _ = sac.actor_loss(batch, random)
    assert critic_loss.item() == pytest.approx(theirs["loss_qvalue"].item(), abs=CLOSE)
    assert actor_loss.item() == pytest.approx(theirs["loss_actor"].item(), abs=CLOSE)

    of_critics = torch.autograd.grad(critic_loss, list(sac.critic.net.weights))
    their_weights = [weight for weight, _ in layers(loss.qvalue_network_params)]
    for ours, their in zip(of_critics, torch.autograd.grad(theirs["loss_qvalue"], their_weights, retain_graph=True), strict=True):
        assert torch.allclose(ours, their.mT, atol=CLOSE, rtol=0)
    of_actor_weights = torch.autograd.grad(actor_loss, list(sac.actor.net.weights))
    their_weights = [weight for weight, _ in layers(loss.actor_network_params)]
    for ours, their in zip(of_actor_weights, torch.autograd.grad(theirs["loss_actor"], their_weights), strict=True):
        assert torch.allclose(ours[0], their.mT, atol=CLOSE, rtol=0)
