"""Implicit Q-learning (Kostrikov et al. 2022): no value is asked of an action that the data does not show."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from atradiff.agents.actor_critic import ActorCritic
from atradiff.agents.gaussian import GaussianActor
from atradiff.agents.networks import EnsembleMLP
from atradiff.trajectory import TransitionBatch

LARGEST_WEIGHT = 100.0
"""Of one action in the actor's loss, as in the paper's code."""


class IQL(ActorCritic):
    """V is an expectile of the target critics over the data's actions, critics learn from V, and the actor imitates actions the more the better
    they are. Wherever several critics are asked, their least counts, whatever `num_min_critics` says."""

    def _make_actor(self, low: Tensor, high: Tensor) -> None:
        config, observation_dim = self.config, self.spec.observation_dim
        self.actor = GaussianActor(observation_dim, low, high, config.width, config.depth).to(self.device)
        self.value = EnsembleMLP(1, [observation_dim, *[config.width] * config.depth, 1], config.layer_norm).to(self.device)
        self.actor_optimizer = self._optimizer(self.actor, config.actor_learning_rate)
        self.acting = self._follower(self.actor)
        self.value_optimizer = self._optimizer(self.value, config.critic_learning_rate)

    def mode(self, observation: Tensor) -> Tensor:
        """The actor's most likely action."""
        return self.acting.mode(observation)

    def explored(self, observation: Tensor, noise: Tensor) -> Tensor:
        """A draw of the actor's."""
        return self.acting.act(observation, noise)

    def next_action(self, observation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """There is none: that targets need no next action is what the algorithm is about."""
        raise TypeError("IQL's targets ask V about the next state, and no action")

    def _learn(self, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """V learns on every part of the batch, then the critics do, then the actor on the last part (algorithm 1)."""
        logs = dict[str, Tensor]()
        for part in batch.deal(self.config.batch_size):
            loss = self.value_loss(part)
            self.value_optimizer.minimize(loss)
            logs["value/loss"] = loss.detach()
        return {**logs, **super()._learn(batch, generator)}

    def value_loss(self, batch: TransitionBatch) -> Tensor:
        """|expectile - 1(u < 0)| u^2, u = Q(s, a) - V(s) (eq. 5)."""
        above = self.least_value(batch) - self._value(batch.observation)
        weight = torch.where(above < 0, 1 - self.config.expectile, self.config.expectile)
        return (weight * above.pow(2)).mean()

    @torch.no_grad()
    def targets(self, batch: TransitionBatch, generator: torch.Generator) -> Tensor:
        """n-step targets `[B]`: reward + discount * V(s') (eq. 6)."""
        return batch.reward + batch.discount * self._value(batch.next_observation)

    def learn_actor(self, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of the actor."""
        loss = self.actor_loss(batch)
        self.actor_optimizer.minimize(loss)
        return {"actor/loss": loss.detach()}

    def actor_loss(self, batch: TransitionBatch) -> Tensor:
        """-exp(beta (Q(s, a) - V(s))) log pi(a | s), the weight at most 100 (eq. 7)."""
        with torch.no_grad():
            advantage = self.least_value(batch) - self._value(batch.observation)
            weight = (self.config.advantage_scale * advantage).exp().clamp(max=LARGEST_WEIGHT)
        return -(weight * self.actor.log_density(batch.observation, batch.action)).mean()

    @torch.no_grad()
    def least_value(self, batch: TransitionBatch) -> Tensor:
        """What the least of the target critics says of each transition's action, `[B]`."""
        return self.target_critic(batch.observation, batch.action).amin(0)

    def _value(self, observation: Tensor) -> Tensor:
        """V `[B]`."""
        return self.value(observation)[0, :, 0]

    def _parts(self) -> dict[str, Any]:
        return {"actor": self.actor, "value": self.value, "actor_optimizer": self.actor_optimizer, "value_optimizer": self.value_optimizer}
