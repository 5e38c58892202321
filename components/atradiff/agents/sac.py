"""Soft actor-critic with an ensemble of critics. REDQ and RLPD are settings of it.

SAC: Haarnoja et al. 2018; REDQ (`num_critics` 10, `num_min_critics` 2, `utd_ratio` 20): Chen et al. 2021; RLPD (`layer_norm`,
`replay.offline_ratio` 0.5): Ball et al. 2023.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from typing_extensions import Doc

from atradiff.agents.networks import CriticEnsemble, TanhGaussianActor
from atradiff.agents.optimizer import Adam, flatten_parameters
from atradiff.errors import UserError
from atradiff.trajectory import Array, Source, Spec, TransitionBatch


@dataclass(frozen=True)
class SACConfig:
    """The agent: its networks and how they learn."""

    width: Annotated[int, Ge(1), Doc("Units in a hidden layer of actor and critics.")] = 128
    depth: Annotated[int, Ge(1), Doc("Hidden layers of actor and critics.")] = 2
    num_critics: Annotated[int, Ge(1), Doc("Critics in the ensemble.")] = 2
    num_min_critics: Annotated[int, Ge(1), Doc("Critics drawn for the minimum in each target.")] = 2
    layer_norm: Annotated[bool, Doc("Layer norm in the critics.")] = True
    batch_size: Annotated[int, Ge(1), Doc("Transitions in one gradient step.")] = 128
    utd_ratio: Annotated[int, Ge(1), Doc("Critic updates for each env step; the actor learns once.")] = 4
    discount: Annotated[float, Gt(0), Le(1), Doc("Discount of one env step.")] = 0.99
    critic_learning_rate: Annotated[float, Gt(0), Doc("Learning rate of the critics.")] = 3e-4
    actor_learning_rate: Annotated[float, Gt(0), Doc("Learning rate of the actor.")] = 3e-4
    temperature_learning_rate: Annotated[float, Ge(0), Doc("Learning rate of the temperature; 0 keeps it fixed.")] = 3e-4
    initial_temperature: Annotated[float, Gt(0), Doc("SAC's alpha at the start; must be small beside a sparse reward of 1.")] = 0.01
    target_entropy_scale: Annotated[float, Doc("Target entropy = -scale * action dimensions.")] = 0.5
    backup_entropy: Annotated[bool, Doc("Whether critic targets include the entropy of the next action.")] = False
    tau: Annotated[float, Gt(0), Le(1), Doc("Rate of the target critics.")] = 0.005
    imitation_weight: Annotated[float, Ge(0), Doc("Weight of imitating imagined (rlpd: offline) actions in the actor's loss; 0 is off.")] = 1.0
    imitation_filter: Annotated[bool, Doc("Imitate only actions that the critics hold for better than the actor's own.")] = False


class SAC:
    """Actor, critics, target critics and temperature with their optimisers. All randomness comes from the generators given."""

    def __init__(self, spec: Spec, config: SACConfig, generator: torch.Generator, device: torch.device | str = "cpu") -> None:
        if config.num_min_critics > config.num_critics:
            raise UserError(f"agent.num_min_critics {config.num_min_critics} is more than agent.num_critics {config.num_critics}")
        self.config = config
        self.spec = spec
        self.device = torch.device(device)
        low, high = torch.tensor(spec.action_low), torch.tensor(spec.action_high)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            actor = TanhGaussianActor(spec.observation_dim, low, high, config.width, config.depth)
            critic = CriticEnsemble(
                config.num_critics, spec.observation_dim, spec.action_dim, config.width, config.depth, config.layer_norm
            )
        self.actor = actor.to(self.device)
        self.critic = critic.to(self.device)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_temperature = torch.tensor(config.initial_temperature, device=self.device).log().requires_grad_()
        self.target_entropy = -config.target_entropy_scale * spec.action_dim
        flat = flatten_parameters(self.critic)
        self._flat_target = flatten_parameters(self.target_critic)
        self.critic_optimizer = Adam(flat, list(self.critic.parameters()), config.critic_learning_rate)
        self.actor_optimizer = Adam(flatten_parameters(self.actor), list(self.actor.parameters()), config.actor_learning_rate)
        self.temperature_optimizer = Adam(self.log_temperature, [self.log_temperature], config.temperature_learning_rate)
        self.gradient_steps = 0

    @torch.no_grad()
    def act(self, observations: Array, generator: torch.Generator | None) -> Array:
        """Actions `[N, A]` for observations `[N, D]`: sampled with the generator, or the mode without one."""
        observation = torch.from_numpy(observations).to(self.device)
        if generator is None:
            return self.actor.mode(observation).cpu().numpy()
        return self.actor.act(observation, self._noise(len(observation), generator)).cpu().numpy()

    def update(self, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One critic update for each `batch_size` transitions of the batch, then one of actor and temperature on the last of them."""
        logs, part = dict[str, Tensor](), batch
        for part in batch.deal(self.config.batch_size):
            loss, logs = self.critic_loss(part, generator)
            self.critic_optimizer.minimize(loss)
            self._flat_target.lerp_(self.critic_optimizer.flat, self.config.tau)
            self.gradient_steps += 1
        self.critic.requires_grad_(False)
        loss, log_density = self.actor_loss(part, generator)
        self.actor_optimizer.minimize(loss)
        self.critic.requires_grad_(True)
        self.temperature_optimizer.minimize(self.temperature_loss(log_density))
        return {
            **logs,
            "actor/loss": loss.detach(),
            "actor/entropy": -log_density.mean(),
            "temperature": self.log_temperature.detach().exp(),
        }

    @torch.no_grad()
    def targets(self, batch: TransitionBatch, generator: torch.Generator) -> Tensor:
        """n-step targets `[B]`: reward + discount * (min over a random subset of target critics - alpha log pi)."""
        noise = self._noise(len(batch.reward), generator)
        if self.config.backup_entropy:
            mean, log_std = self.actor(batch.next_observation)
            action, log_density = self.actor.sample(mean, log_std, noise)
        else:
            action, log_density = self.actor.act(batch.next_observation, noise), None
        members = None
        if self.config.num_min_critics < self.config.num_critics:
            members = torch.randperm(self.config.num_critics, generator=generator)[: self.config.num_min_critics].to(self.device)
        value = self.target_critic(batch.next_observation, action, members).amin(0)
        if log_density is not None:
            value = value - self.log_temperature.exp() * log_density
        return batch.reward + batch.discount * value

    def critic_loss(self, batch: TransitionBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of every critic to the targets."""
        values = self.critic(batch.observation, batch.action)
        loss = (values - self.targets(batch, generator)).pow(2).mean()
        return loss, {"critic/loss": loss.detach(), "critic/value": values.detach().mean()}

    def actor_loss(self, batch: TransitionBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """alpha log pi - Q, with Q the mean over critics as in REDQ and RLPD; also the detached log-densities `[B]`.

        With an `imitation_weight`, plus that times the squared distance of the mode from the actions of imagined (rlpd: offline)
        transitions; with an `imitation_filter`, only of those that the critics hold for better than the mode (the Q-filter of Nair et al.
        2018). Imitating imagination is ours.
        """
        mean, log_std = self.actor(batch.observation)
        action, log_density = self.actor.sample(mean, log_std, self._noise(len(mean), generator))
        value = self.critic(batch.observation, action).mean(0)
        loss = (self.log_temperature.detach().exp() * log_density - value).mean()
        if self.config.imitation_weight > 0:
            mode = self.actor.squash(mean)
            with torch.no_grad():
                imitate = batch.source != Source.ONLINE
                if self.config.imitation_filter:
                    imitate &= self.critic(batch.observation, batch.action).mean(0) > self.critic(batch.observation, mode).mean(0)
            distance = ((mode - batch.action) / self.actor.half_range).pow(2).sum(-1)
            loss = loss + self.config.imitation_weight * (distance * imitate).mean()
        return loss, log_density.detach()

    def temperature_loss(self, log_density: Tensor) -> Tensor:
        """alpha (entropy - target entropy)."""
        return self.log_temperature.exp() * (-log_density - self.target_entropy).mean()

    @torch.no_grad()
    def td_error(self, batch: TransitionBatch, generator: torch.Generator) -> Tensor:
        """|mean Q - target| of each transition, `[B]`."""
        return (self.critic(batch.observation, batch.action).mean(0) - self.targets(batch, generator)).abs()

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, self.spec.action_dim, generator=generator).to(self.device)

    def _parts(self) -> dict[str, Any]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "target_critic": self.target_critic,
            "critic_optimizer": self.critic_optimizer,
            "actor_optimizer": self.actor_optimizer,
            "temperature_optimizer": self.temperature_optimizer,
        }

    def state_dict(self) -> dict[str, Any]:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        return {**state, "log_temperature": self.log_temperature.detach().clone(), "gradient_steps": self.gradient_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        with torch.no_grad():
            self.log_temperature.copy_(state["log_temperature"])
        self.gradient_steps = int(state["gradient_steps"])
