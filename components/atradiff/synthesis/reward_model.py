"""The `learned` reward arm: a model of the reward and of the end of the task, fitted on offline transitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.diffusion.backbone import mlp
from atradiff.diffusion.training import TrainConfig
from atradiff.synthesis.length_estimator import EstimatorNetworkConfig
from atradiff.trajectory import Array, BoolArray


@dataclass(frozen=True)
class RewardModelConfig:
    """The reward model of the `learned` arm."""

    network: EstimatorNetworkConfig = field(default_factory=EstimatorNetworkConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


class OutcomeBatch(NamedTuple):
    """inputs `[B, 2 O + A + K]`, reward `[B]` in [-1, 1], terminated `[B]` as 0 or 1."""

    inputs: Tensor
    reward: Tensor
    terminated: Tensor


class Outcomes:
    """All offline transitions with what came of them. Half of every batch are the rare ones (rewarded or terminal), where there are any."""

    def __init__(self, data: OfflineData, model: RewardModel) -> None:
        rows = data.transition_rows()
        episode = data.row_episodes()[rows]
        terminated = data.episode_terminated[episode] & (rows == data.episode_ends[episode] - 2)
        self._inputs = torch.from_numpy(model.inputs(data.states[rows], data.actions[rows], data.states[rows + 1], data.tasks[episode]))
        self._reward = torch.from_numpy(model.normalize_reward(data.rewards[rows]))
        self._terminated = torch.from_numpy(terminated.astype(np.float32))
        self._rare = torch.from_numpy(np.flatnonzero(terminated | (data.rewards[rows] > data.spec.reward_minimum)))

    def sample(self, batch_size: int, generator: torch.Generator) -> OutcomeBatch:
        rare = batch_size // 2 if len(self._rare) else 0
        index = torch.randint(len(self._reward), (batch_size - rare,), generator=generator)
        if rare:
            index = torch.cat([self._rare[torch.randint(len(self._rare), (rare,), generator=generator)], index])
        return OutcomeBatch(self._inputs[index], self._reward[index], self._terminated[index])


class RewardModel(nn.Module):
    """(s, a, s', task) to the reward and the probability that the task ended."""

    def __init__(self, normalizer: Normalizer, config: EstimatorNetworkConfig) -> None:
        super().__init__()
        spec = normalizer.spec
        self.normalizer = normalizer
        self.config = config
        self.net = mlp(2 * spec.state_dim + spec.action_dim + spec.task_dim, config.width, config.depth, 2)

    def inputs(self, states: Array, actions: Array, next_states: Array, tasks: Array) -> Array:
        """Normalised inputs `[N, 2 O + A + K]`."""
        n = self.normalizer
        return np.concatenate([n.states(states), n.actions(actions), n.states(next_states), n.tasks(tasks)], axis=-1, dtype=np.float32)

    def normalize_reward(self, rewards: Array) -> Array:
        n = self.normalizer
        return ((rewards - n.row_mean[-3]) / n.row_scale[-3]).astype(np.float32)

    def loss(self, batch: OutcomeBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the reward plus cross-entropy of the termination; draws nothing from the generator."""
        del generator
        reward, logit = self.net(batch.inputs).unbind(-1)
        loss = functional.mse_loss(reward, batch.reward) + functional.binary_cross_entropy_with_logits(logit, batch.terminated)
        return loss, {"loss": loss.detach()}

    @torch.no_grad()
    def predict(self, states: Array, actions: Array, next_states: Array, task: Array) -> tuple[Array, BoolArray]:
        """Rewards `[T]` (snapped where sparse) and terminations `[T]` of T transitions under `task [K]`."""
        tasks = np.broadcast_to(task, (len(states), len(task)))
        inputs = torch.from_numpy(self.inputs(states, actions, next_states, tasks)).to(next(self.parameters()).device)
        reward, logit = self.net(inputs).cpu().unbind(-1)
        n = self.normalizer
        return n.snap_rewards(reward.numpy() * n.row_scale[-3] + n.row_mean[-3]), (logit > 0).numpy()
