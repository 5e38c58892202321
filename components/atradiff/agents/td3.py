"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018): a deterministic actor, and targets smoothed over near actions."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from atradiff.agents.actor_critic import ActorCritic
from atradiff.agents.networks import TanhActor
from atradiff.agents.optimizer import flatten_parameters
from atradiff.trajectory import TransitionBatch


class TD3(ActorCritic):
    """The actor learns once for `utd_ratio` critic steps, which is TD3's delay, and its target follows it at `tau` each time.

    The critics' targets follow at every critic step, as in the other agents; the paper's wait for the actor (algorithm 1).
    """

    def _make_actor(self, low: Tensor, high: Tensor) -> None:
        config = self.config
        self.actor = TanhActor(self.spec.observation_dim, low, high, config.width, config.depth).to(self.device)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.actor_optimizer = self._optimizer(self.actor, config.actor_learning_rate)
        self.acting = self._follower(self.actor)
        self._flat_target_actor = flatten_parameters(self.target_actor)

    def mode(self, observation: Tensor) -> Tensor:
        """The actor's action."""
        return self.acting(observation)

    def explored(self, observation: Tensor, noise: Tensor) -> Tensor:
        """The same with noise on it."""
        return self._perturbed(self.acting(observation), self.config.exploration_noise * noise)

    def next_action(self, observation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The target actor's, with clipped noise on it (eq. 14)."""
        clip = self.config.target_noise_clip
        noise = (self.config.target_noise * self._noise(len(observation), generator)).clamp(-clip, clip)
        return self._perturbed(self.target_actor(observation), noise), None

    def learn_actor(self, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of the actor, and of its target."""
        loss = self.actor_loss(batch, generator)
        self.actor_optimizer.minimize(loss)
        self._flat_target_actor.lerp_(self.actor_optimizer.flat, self.config.tau)
        return {"actor/loss": loss.detach()}

    def actor_loss(self, batch: TransitionBatch, generator: torch.Generator) -> Tensor:
        """-Q(s, actor(s)), with Q as `actor_value` says, and the imitation."""
        action = self.actor(batch.observation)
        loss = -self.actor_value(batch.observation, action, generator).mean()
        if self.config.imitation_weight > 0:
            loss = loss + self.config.imitation_weight * self.imitation_loss(action, batch)
        return loss

    def _perturbed(self, action: Tensor, noise: Tensor) -> Tensor:
        """The action `[B, A]` moved by noise in half action ranges, and kept within the range."""
        centre, half = self.actor.centre, self.actor.half_range
        return (action + half * noise).clamp(centre - half, centre + half)

    def _parts(self) -> dict[str, Any]:
        return {"actor": self.actor, "target_actor": self.target_actor, "actor_optimizer": self.actor_optimizer}
