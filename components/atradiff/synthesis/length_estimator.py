"""How many steps are left to the end of the task: quantile regression on offline episodes, right-censored where truncated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import Doc

from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.diffusion.backbone import mlp
from atradiff.trajectory import Array

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class EstimatorNetworkConfig:
    """Size of the length estimator."""

    width: Annotated[int, Ge(1), Doc("Units in a hidden layer.")] = 128
    depth: Annotated[int, Ge(1), Doc("Hidden layers.")] = 3


class StateBatch(NamedTuple):
    """state `[B, O]` and task `[B, K]` normalised; steps `[B]` to the episode's end; censored `[B]` where that end is a truncation."""

    state: Tensor
    task: Tensor
    steps: Tensor
    censored: Tensor


class States:
    """All states from which offline episodes went on, with the steps that were left."""

    def __init__(self, data: OfflineData, normalizer: Normalizer) -> None:
        rows, episodes = data.transition_rows(), data.row_episodes()
        episode = episodes[rows]
        self._all = StateBatch(
            state=torch.from_numpy(normalizer.states(data.states[rows])),
            task=torch.from_numpy(normalizer.tasks(data.tasks)[episode]),
            steps=torch.from_numpy((data.episode_ends[episode] - 1 - rows).astype(np.float32)),
            censored=torch.from_numpy(~data.episode_terminated[episode]),
        )

    def __len__(self) -> int:
        return len(self._all.steps)

    def sample(self, batch_size: int, generator: torch.Generator) -> StateBatch:
        return self.at(torch.randint(len(self), (batch_size,), generator=generator))

    def at(self, index: Tensor) -> StateBatch:
        return StateBatch(*(values[index] for values in self._all))


def pinball_loss(predicted: Tensor, steps: Tensor, censored: Tensor, quantiles: Tensor) -> Tensor:
    """Pinball loss `[B, Q]` of quantiles `[B, Q]` against `steps [B]` (Koenker and Bassett 1978).

    A censored step count says "at least this long": predicting more costs nothing, predicting less costs as usual (Powell 1986).
    """
    error = steps[:, None] - predicted
    over = torch.where(censored[:, None], 0.0, (quantiles - 1) * error)
    return torch.where(error > 0, quantiles * error, over)


class LengthEstimator(nn.Module):
    """Quantiles 0.1, 0.5 and 0.9 of the remaining steps, in ascending order by construction."""

    def __init__(self, normalizer: Normalizer, config: EstimatorNetworkConfig, scale: float) -> None:
        super().__init__()
        self.normalizer = normalizer
        self.config = config
        self.scale = scale  # steps in one unit of the network's output
        self.net = mlp(normalizer.spec.observation_dim, config.width, config.depth, len(QUANTILES))
        self.register_buffer("quantiles", torch.tensor(QUANTILES))
        self.quantiles: Tensor

    def forward(self, state: Tensor, task: Tensor) -> Tensor:
        """Normalised state `[B, O]` and task `[B, K]` to steps `[B, 3]`."""
        raw = self.net(torch.cat([state, task], dim=-1))
        return self.scale * functional.softplus(raw).cumsum(-1)

    def loss(self, batch: StateBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean pinball loss, in steps over `scale`; draws nothing from the generator."""
        del generator
        loss = (pinball_loss(self(batch.state, batch.task), batch.steps, batch.censored, self.quantiles) / self.scale).mean()
        return loss, {"loss": loss.detach()}

    @torch.no_grad()
    def predict(self, states: Array, tasks: Array) -> Array:
        """Steps `[B, 3]` left from `states [B, O]` under `tasks [B, K]`, both in the task's units."""
        device = self.quantiles.device
        state = torch.from_numpy(self.normalizer.states(states)).to(device)
        return self(state, torch.from_numpy(self.normalizer.tasks(tasks)).to(device)).cpu().numpy()
