"""What all agents have in common: an ensemble of critics with targets, an actor that learns once for several critic steps, imitation."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn
from typing_extensions import Doc

from atradiff.agents.networks import CriticEnsemble
from atradiff.agents.optimizer import Adam, flatten_parameters
from atradiff.errors import UserError
from atradiff.graphs import Graphed
from atradiff.trajectory import Array, Source, Spec, TransitionBatch

Module = TypeVar("Module", bound=nn.Module)
ACTING = "acting"
"""What of a state are the weights that act; where there are none, as an agent without an `acting_rate` writes it, the actor's are taken."""


@dataclass(frozen=True)
class AgentConfig:
    """The agent: its networks and how they learn."""

    algorithm: Annotated[
        Literal["sac", "td3", "td3bc", "iql", "pex", "calql"],
        Doc("Which code learns: sac, td3, td3bc, iql, pex or calql; REDQ, RLPD and DroQ are settings of sac, see `atradiff algorithms`."),
    ] = "sac"
    width: Annotated[int, Ge(1), Doc("Units in a hidden layer of actor and critics.")] = 128
    depth: Annotated[int, Ge(1), Doc("Hidden layers of actor and critics.")] = 2
    num_critics: Annotated[int, Ge(1), Doc("Critics in the ensemble.")] = 2
    num_min_critics: Annotated[int, Ge(1), Doc("Critics drawn for the minimum in each target.")] = 2
    layer_norm: Annotated[bool, Doc("Layer norm in the critics.")] = True
    dropout: Annotated[float, Ge(0), Lt(1), Doc("Chance that a hidden unit of the critics is dropped while they and the actor learn (DroQ); 0 is off.")] = 0.0
    actor_value: Annotated[Literal["mean", "min", "first"], Doc("What the actor climbs: the critics' mean, their least, or the first one's value.")] = "mean"
    standardize: Annotated[
        bool, Doc("See states and tasks standardised by their means and spreads in the offline data, where the run has such data.")
    ] = False
    batch_size: Annotated[int, Ge(1), Doc("Transitions in one gradient step.")] = 128
    utd_ratio: Annotated[int, Ge(1), Doc("Critic updates for each env step; the actor learns once.")] = 4
    discount: Annotated[float, Gt(0), Le(1), Doc("Discount of one env step.")] = 0.99
    critic_learning_rate: Annotated[float, Gt(0), Doc("Learning rate of the critics.")] = 3e-4
    actor_learning_rate: Annotated[float, Gt(0), Doc("Learning rate of the actor.")] = 3e-4
    temperature_learning_rate: Annotated[float, Ge(0), Doc("sac: learning rate of the temperature; 0 keeps it fixed.")] = 3e-4
    initial_temperature: Annotated[float, Gt(0), Doc("sac: alpha at the start; must be small beside a sparse reward of 1.")] = 0.01
    target_entropy_scale: Annotated[float, Doc("sac: target entropy = -scale * action dimensions.")] = 0.5
    backup_entropy: Annotated[bool, Doc("sac: whether critic targets include the entropy of the next action.")] = False
    exploration_noise: Annotated[float, Ge(0), Doc("td3: standard deviation of the noise on its actions, in half action ranges.")] = 0.1
    target_noise: Annotated[float, Ge(0), Doc("td3: standard deviation of the noise on the targets' actions, in half action ranges.")] = 0.2
    target_noise_clip: Annotated[float, Ge(0), Doc("td3: largest such noise, in half action ranges.")] = 0.5
    tau: Annotated[float, Gt(0), Le(1), Doc("Rate of the target critics.")] = 0.005
    acting_rate: Annotated[
        float, Gt(0), Le(1), Doc("Rate at which the policy that acts follows the actor that learns, once in each update; 1 is the actor itself.")
    ] = 0.01
    imitation_weight: Annotated[float, Ge(0), Doc("sac, td3: weight of imitating imagined (rlpd: offline) actions in the actor's loss; 0 is off.")] = 1.0
    imitation_filter: Annotated[bool, Doc("Imitate only actions that the critics hold for better than the actor's own.")] = False
    value_weight: Annotated[float, Gt(0), Doc("td3bc: alpha, the weight of the value beside the imitation of all actions of the batch.")] = 2.5
    expectile: Annotated[float, Gt(0), Lt(1), Doc("iql, pex: the expectile of the actions' values that V stands for; towards 1 it is the best action's.")] = 0.7
    advantage_scale: Annotated[float, Ge(0), Doc("iql, pex: beta, how much more an action counts the better it is; 0 imitates all alike.")] = 3.0
    selection_temperature: Annotated[float, Gt(0), Doc("pex: the difference in value that makes one policy's action e times as likely as the other's.")] = 0.1
    conservative_weight: Annotated[float, Ge(0), Doc("calql: weight of holding down the values of actions that the data does not show.")] = 5.0
    conservative_actions: Annotated[int, Ge(1), Doc("calql: actions drawn for that from each of three sources.")] = 10


class ActorCritic(ABC):
    """Actor, critics and target critics with their optimisers. All randomness comes from the generators given."""

    actor_optimizer: Adam
    _flat_acting: Tensor

    def __init__(self, spec: Spec, config: AgentConfig, generator: torch.Generator, device: torch.device | str = "cpu") -> None:
        if config.num_min_critics > config.num_critics:
            raise UserError(f"agent.num_min_critics {config.num_min_critics} is more than agent.num_critics {config.num_critics}")
        self.config = config
        self.spec = spec
        self.device = torch.device(device)
        self.standardize(torch.zeros(spec.observation_dim), torch.ones(spec.observation_dim))
        low, high = torch.tensor(spec.action_low), torch.tensor(spec.action_high)
        self.half_range = ((high - low) / 2).to(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            self._make_actor(low, high)
            critic = CriticEnsemble(
                config.num_critics, spec.observation_dim, spec.action_dim, config.width, config.depth, config.layer_norm, config.dropout
            )
        self.critic = critic.to(self.device)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self._flat_target = flatten_parameters(self.target_critic)
        self.critic_optimizer = self._optimizer(self.critic, config.critic_learning_rate)
        self.gradient_steps = 0
        self._learn_block, self._mode, self._explored = Graphed(self._learn_and_follow), Graphed(self.mode), Graphed(self.explored)

    @abstractmethod
    def _make_actor(self, low: Tensor, high: Tensor) -> None:
        """Make the actor for actions between `low [A]` and `high [A]`, its optimiser, and what acts for it, see `_follower`."""

    @abstractmethod
    def mode(self, observation: Tensor) -> Tensor:
        """The best action `[N, A]` for each observation `[N, D]`."""

    @abstractmethod
    def explored(self, observation: Tensor, noise: Tensor) -> Tensor:
        """An action `[N, A]` to explore by, from unit `noise [N, A]`."""

    def standardize(self, mean: Array | Tensor, scale: Array | Tensor) -> None:
        """From now on see observations as (o - mean) / scale, `[D]` each (as TD3+BC does, Fujimoto and Gu 2021, section 5)."""
        self.observation_mean, self.observation_scale = (torch.as_tensor(part).to(self.device, torch.float32) for part in (mean, scale))

    def seen(self, observation: Tensor) -> Tensor:
        """What the networks see of observations `[B, D]`."""
        return (observation - self.observation_mean) / self.observation_scale

    def seen_batch(self, batch: TransitionBatch) -> TransitionBatch:
        """The batch with its observations as the networks see them."""
        return batch._replace(observation=self.seen(batch.observation), next_observation=self.seen(batch.next_observation))

    @torch.no_grad()
    def act(self, observations: Array, generator: torch.Generator | None) -> Array:
        """Actions `[N, A]` for observations `[N, D]`: explored with the generator, or the best without one."""
        observation = self.seen(torch.from_numpy(observations).to(self.device))
        if generator is None:
            return self._mode(observation).cpu().numpy()
        return self._explored(observation, self._noise(len(observation), generator)).cpu().numpy()

    @abstractmethod
    def next_action(self, observation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The action `[B, A]` that targets are asked about after a transition, and what is added to their value `[B]`, if anything."""

    @abstractmethod
    def learn_actor(self, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of the actor, and of what belongs to it; returns what to log."""

    @abstractmethod
    def _parts(self) -> dict[str, Any]:
        """Whatever of the actor has a state_dict, by name."""

    def update(self, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One critic update for each `batch_size` transitions of the batch, then one of the actor on the last of them.

        On a GPU, and with its generator, one CUDA graph; what is returned is overwritten by the next update.
        """
        self.gradient_steps += len(batch.reward) // self.config.batch_size
        return self._learn_block(self.seen_batch(batch), generator)

    def _learn_and_follow(self, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """What `update` does, and then what acts follows the actor."""
        logs = self._learn(batch, generator)
        if self.config.acting_rate < 1:
            self._flat_acting.lerp_(self.actor_optimizer.flat, self.config.acting_rate)
        return logs

    def _learn(self, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
        logs, part = dict[str, Tensor](), batch
        for part in batch.deal(self.config.batch_size):
            loss, logs = self.critic_loss(part, generator)
            self.critic_optimizer.minimize(loss)
            self._flat_target.lerp_(self.critic_optimizer.flat, self.config.tau)
        self.critic.requires_grad_(False)
        logs = {**logs, **self.learn_actor(part, generator)}
        self.critic.requires_grad_(True)
        return logs

    @torch.no_grad()
    def targets(self, batch: TransitionBatch, generator: torch.Generator) -> Tensor:
        """n-step targets `[B]`: reward + discount * (min over a random subset of target critics, and what `next_action` adds).

        Dropout is on, as in the other losses (Hiraoka et al. 2022, algorithm 2).
        """
        action, added = self.next_action(batch.next_observation, generator)
        members = self._draw_members(generator)
        value = self.target_critic(batch.next_observation, action, members, generator).amin(0)
        if added is not None:
            value = value + added
        return batch.reward + batch.discount * value

    def critic_loss(self, batch: TransitionBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of every critic to the targets."""
        values = self.critic(batch.observation, batch.action, generator=generator)
        loss = (values - self.targets(batch, generator)).pow(2).mean()
        return loss, {"critic/loss": loss.detach(), "critic/value": values.detach().mean()}

    def actor_value(self, observation: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        """What the actor climbs, `[B]`: the critics' mean (REDQ eq. 2, RLPD, DroQ), their least (SAC) or the first one's (TD3)."""
        values = self.critic(observation, action, generator=generator)
        match self.config.actor_value:
            case "mean":
                return values.mean(0)
            case "min":
                return values.amin(0)
            case "first":
                return values[0]

    def imitation_loss(self, mode: Tensor, batch: TransitionBatch) -> Tensor:
        """The squared distance, in half action ranges, of the best action `mode [B, A]` from those of imagined (rlpd: offline) transitions.

        With an `imitation_filter`, only of those that the critics hold for better than the mode (the Q-filter of Nair et al. 2018).
        Imitating imagination is ours.
        """
        distance = ((mode - batch.action) / self.half_range).pow(2).sum(-1)
        return (distance * self.imitated(mode, batch)).mean()

    @torch.no_grad()
    def imitated(self, mode: Tensor, batch: TransitionBatch) -> Tensor:
        """Whose actions are imitated, `[B]`."""
        imitate = batch.source != Source.ONLINE
        if self.config.imitation_filter:
            imitate &= self.critic(batch.observation, batch.action).mean(0) > self.critic(batch.observation, mode).mean(0)
        return imitate

    @torch.no_grad()
    def td_error(self, batch: TransitionBatch, generator: torch.Generator) -> Tensor:
        """|mean Q - target| of each transition, `[B]`; the values are those of whole critics, nothing is dropped out of them."""
        batch = self.seen_batch(batch)
        return (self.critic(batch.observation, batch.action).mean(0) - self.targets(batch, generator)).abs()

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, self.spec.action_dim, generator=generator, device=generator.device).to(self.device)

    def _draw_members(self, generator: torch.Generator) -> Tensor | None:
        """The numbers of the target critics whose least value counts; None is all of them."""
        count, asked = self.config.num_critics, self.config.num_min_critics
        if asked == count:
            return None
        return torch.randperm(count, generator=generator, device=generator.device)[:asked].to(self.device)

    def _follower(self, actor: Module) -> Module:
        """What acts and is evaluated: the actor, or with an `acting_rate` a running mean of its weights, which swings less from one update to the
        next than they do (of policies Nikishin et al. 2018)."""
        if self.config.acting_rate == 1:
            return actor
        follower = copy.deepcopy(actor).requires_grad_(False)
        self._flat_acting = flatten_parameters(follower)
        return follower

    def _optimizer(self, module: nn.Module, learning_rate: float) -> Adam:
        return Adam(flatten_parameters(module), list(module.parameters()), learning_rate)

    def _all_parts(self) -> dict[str, Any]:
        critics = {"critic": self.critic, "target_critic": self.target_critic, "critic_optimizer": self.critic_optimizer}
        return {**critics, **self._parts()}

    def state_dict(self) -> dict[str, Any]:
        seen = {"observation_mean": self.observation_mean, "observation_scale": self.observation_scale}
        acting = {ACTING: self._flat_acting.clone()} if self.config.acting_rate < 1 else {}
        return {**{name: part.state_dict() for name, part in self._all_parts().items()}, **acting, **seen, "gradient_steps": self.gradient_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._all_parts().items():
            part.load_state_dict(state[name])
        if self.config.acting_rate < 1:
            self._flat_acting.copy_(state.get(ACTING, self.actor_optimizer.flat))
        self._load_beside_parts(state)

    def _load_beside_parts(self, state: dict[str, Any]) -> None:
        """What it sees, and how far it is."""
        self.standardize(state["observation_mean"], state["observation_scale"])
        self.gradient_steps = int(state["gradient_steps"])
