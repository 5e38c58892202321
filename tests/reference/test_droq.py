"""DroQ beside its algorithm 2 (Hiraoka et al. 2022), written slowly in plain torch: torch's own layer norm, density and Adam.

TorchRL and Stable-Baselines3 have no DroQ. Both sides drop the same units and draw the same noise: that of the next action, then that of the
action. What is dropped comes in the order critics, targets, critics once more for the actor.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional

import toys
from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.fused import FusedSAC
from atradiff.agents.networks import EnsembleMLP
from atradiff.agents.sac import SAC
from atradiff.trajectory import TransitionBatch
from reference.side_by_side import BATCH, CLOSE, SPEC, make_batch

CONFIG = AgentConfig(
    width=32, num_critics=2, layer_norm=True, dropout=0.1, batch_size=BATCH, utd_ratio=1, tau=0.05, initial_temperature=0.3,
    target_entropy_scale=1.0, backup_entropy=True, imitation_weight=0.0,
)  # fmt: skip
UPDATES = 5


def values(net: EnsembleMLP, observation: Tensor, action: Tensor, masks: list[Tensor]) -> list[Tensor]:
    """Q_Dr of each critic `[B]`: linear, dropout, layer norm, ReLU (figure 1)."""
    found: list[Tensor] = []
    for member in range(2):
        x = torch.cat([observation, action], dim=-1)
        for k, weight in enumerate(net.weights[:-1]):
            x = (x @ weight[member] + net.biases[k][member]) * masks[k][member]
            x = functional.layer_norm(x, x.shape[-1:]).relu()
        found.append((x @ net.weights[-1][member] + net.biases[-1][member])[:, 0])
    return found


def drawn(net: EnsembleMLP, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """An action and its log-density."""
    x = observation
    for k, weight in enumerate(net.weights[:-1]):
        x = (x @ weight[0] + net.biases[k][0]).relu()
    mean, log_std = (x @ net.weights[-1][0] + net.biases[-1][0]).chunk(2, dim=-1)
    before = mean + log_std.exp() * noise
    density = Normal(mean, log_std.exp()).log_prob(before) - torch.log1p(-torch.tanh(before) ** 2)
    return torch.tanh(before), density.sum(-1)


class Slow:
    """DroQ's update, line by line."""

    def __init__(self, sac: SAC) -> None:
        self.actor, self.critic, self.target = (copy.deepcopy(part.net) for part in (sac.actor, sac.critic, sac.target_critic))
        self.log_alpha = torch.tensor(math.log(CONFIG.initial_temperature), requires_grad=True)
        self.optimizers = [torch.optim.Adam(part, lr=3e-4) for part in (self.critic.parameters(), self.actor.parameters(), [self.log_alpha])]

    def update(self, batch: TransitionBatch, noises: list[Tensor], masks: list[list[Tensor]]) -> dict[str, float]:
        alpha = float(self.log_alpha.detach().exp())
        current = values(self.critic, batch.observation, batch.action, masks[0])
        with torch.no_grad():
            action, log_density = drawn(self.actor, batch.next_observation, noises[0])
            least = torch.minimum(*values(self.target, batch.next_observation, action, masks[1]))
            target = batch.reward + batch.discount * (least - alpha * log_density)  # line 6
        critic_loss = sum((((value - target) ** 2).mean() for value in current), torch.zeros(())) / 2
        self.step(0, critic_loss)
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                slow.copy_((1 - CONFIG.tau) * slow + CONFIG.tau * fast)
        action, log_density = drawn(self.actor, batch.observation, noises[1])
        climbed = sum(values(self.critic, batch.observation, action, masks[2]), torch.zeros(())) / 2
        actor_loss = (alpha * log_density - climbed).mean()  # line 10
        self.step(1, actor_loss)
        self.step(2, self.log_alpha.exp() * (-log_density.detach() + SPEC.action_dim).mean())
        return {"critic/loss": critic_loss.item(), "actor/loss": actor_loss.item(), "temperature": self.log_alpha.exp().item()}

    def step(self, which: int, loss: Tensor) -> None:
        self.optimizers[which].zero_grad()
        loss.backward()
        self.optimizers[which].step()


@pytest.mark.parametrize("kind", [SAC, FusedSAC])
def test_droq(kind: type[SAC], monkeypatch: pytest.MonkeyPatch) -> None:
    sac = kind(SPEC, CONFIG, toys.generator())
    slow, masks, noises = Slow(sac), list[list[Tensor]](), list[Tensor]()
    draw_masks, draw_noise = EnsembleMLP.draw_masks, SAC._noise

    def seen_masks(*arguments: Any) -> list[Tensor]:
        masks.append(draw_masks(*arguments))
        return masks[-1]

    def seen_noise(*arguments: Any) -> Tensor:
        noises.append(draw_noise(*arguments))
        return noises[-1]

    monkeypatch.setattr(EnsembleMLP, "draw_masks", seen_masks)
    monkeypatch.setattr(SAC, "_noise", seen_noise)
    for update in range(UPDATES):
        batch = make_batch(update)
        masks.clear()
        noises.clear()
        logs = sac.update(batch, toys.generator(100 + update))
        theirs = slow.update(batch, noises, masks)
        assert (len(masks), len(noises)) == (3, 2)
        for mask in [layer for layers in masks for layer in layers]:
            assert torch.allclose(mask, (mask > 0) / (1 - CONFIG.dropout))  # as torch's dropout scales what it keeps
        for name, value in theirs.items():
            assert float(logs[name]) == pytest.approx(value, abs=CLOSE)
        for ours, net in ((sac.actor, slow.actor), (sac.critic, slow.critic), (sac.target_critic, slow.target)):
            assert all(torch.allclose(a, b, atol=CLOSE, rtol=0) for a, b in zip(ours.net.parameters(), net.parameters(), strict=True))
