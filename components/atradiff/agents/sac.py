"""Soft actor-critic with an ensemble of critics (Haarnoja et al. 2018).

Settings of it: REDQ (`num_critics` 10, `num_min_critics` 2, `utd_ratio` 20; Chen et al. 2021), RLPD (REDQ with `layer_norm`, and half of
each batch offline; Ball et al. 2023), DroQ (2 critics with `layer_norm` and `dropout`, `utd_ratio` 20; Hiraoka et al. 2022).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from atradiff.agents.actor_critic import ActorCritic
from atradiff.agents.networks import TanhGaussianActor
from atradiff.agents.optimizer import Adam
from atradiff.trajectory import TransitionBatch


class SAC(ActorCritic):
    """A tanh-Gaussian actor and a temperature that keeps its entropy at `-target_entropy_scale` times the action dimensions."""

    def _make_actor(self, low: Tensor, high: Tensor) -> None:
        config = self.config
        self.actor = TanhGaussianActor(self.spec.observation_dim, low, high, config.width, config.depth).to(self.device)
        self.actor_optimizer = self._optimizer(self.actor, config.actor_learning_rate)
        self.acting = self._follower(self.actor)
        self.log_temperature = torch.tensor(config.initial_temperature, device=self.device).log().requires_grad_()
        self.temperature_optimizer = Adam(self.log_temperature, [self.log_temperature], config.temperature_learning_rate)
        self.target_entropy = -config.target_entropy_scale * self.spec.action_dim

    def mode(self, observation: Tensor) -> Tensor:
        """The actor's deterministic action."""
        return self.acting.mode(observation)

    def explored(self, observation: Tensor, noise: Tensor) -> Tensor:
        """A sample of the actor's."""
        return self.acting.act(observation, noise)

    def next_action(self, observation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The actor's draw; with `backup_entropy`, -alpha log pi is added."""
        noise = self._noise(len(observation), generator)
        if not self.config.backup_entropy:
            return self.actor.act(observation, noise), None
        mean, log_std = self.actor(observation)
        action, log_density = self.actor.sample(mean, log_std, noise)
        return action, -self.log_temperature.exp() * log_density

    def learn_actor(self, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of the actor and one of the temperature."""
        loss, log_density = self.actor_loss(batch, generator)
        self.actor_optimizer.minimize(loss)
        self.temperature_optimizer.minimize(self.temperature_loss(log_density))
        return {
            "actor/loss": loss.detach(),
            "actor/entropy": -log_density.mean(),
            "temperature": self.log_temperature.detach().exp(),
        }

    def actor_loss(self, batch: TransitionBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """alpha log pi - Q, with Q as `actor_value` says, and the imitation; also the detached log-densities `[B]`."""
        mean, log_std = self.actor(batch.observation)
        action, log_density = self.actor.sample(mean, log_std, self._noise(len(mean), generator))
        value = self.actor_value(batch.observation, action, generator)
        loss = (self.log_temperature.detach().exp() * log_density - value).mean()
        if self.config.imitation_weight > 0:
            loss = loss + self.config.imitation_weight * self.imitation_loss(self.actor.squash(mean), batch)
        return loss, log_density.detach()

    def temperature_loss(self, log_density: Tensor) -> Tensor:
        """alpha (entropy - target entropy)."""
        return self.log_temperature.exp() * (-log_density - self.target_entropy).mean()

    def _parts(self) -> dict[str, Any]:
        return {"actor": self.actor, "actor_optimizer": self.actor_optimizer, "temperature_optimizer": self.temperature_optimizer}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "log_temperature": self.log_temperature.detach().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with torch.no_grad():
            self.log_temperature.copy_(state["log_temperature"])
