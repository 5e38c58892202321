"""From the agent's current states to imagined trajectories (ATraDiff's task-conditioned synthesis)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Le
from typing_extensions import Doc

from atradiff.diffusion.denoiser import Denoiser
from atradiff.diffusion.sampler import SamplerConfig
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.length_estimator import QUANTILES, LengthEstimator
from atradiff.synthesis.prune import PruneConfig, Pruned, prune
from atradiff.synthesis.reward_model import RewardModel, RewardModelConfig
from atradiff.trajectory import Array, BoolArray, Trajectory

Outcome = tuple[Array, BoolArray]
RewardArm = Callable[[Array, Array, Array, Array], Outcome]
"""(states `[T, O]`, actions `[T, A]`, next states `[T, O]`, task `[K]`) to rewards `[T]` and terminations `[T]`."""


@dataclass(frozen=True)
class SynthesisConfig:
    """How trajectories are imagined."""

    reward: Annotated[
        Literal["generated", "learned", "oracle"],
        Doc("Rewards of imagined steps: the denoiser's own channels, a learned model, or the environment's reward function."),
    ] = "generated"
    length_quantile: Annotated[float, Doc("Quantile of the remaining steps that a trajectory must cover: 0.1, 0.5 or 0.9.")] = 0.9
    maximum_length: Annotated[int | None, Ge(1), Doc("Transitions kept of an imagined trajectory at most; null keeps all.")] = None
    batch_size: Annotated[int, Ge(1), Doc("Requests gathered before they are served together.")] = 16
    original_share: Annotated[float, Ge(0), Le(1), Doc("Share of trajectories imagined by the original denoisers, once adapted ones exist.")] = 0.2
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    reward_model: RewardModelConfig = field(default_factory=RewardModelConfig)


class Imagined(NamedTuple):
    """One imagined trajectory with how it came about. `window_states [H, O]` is what was generated before pruning."""

    trajectory: Trajectory
    horizon: int
    estimated_length: float
    pruned: Pruned
    window_states: Array


class Synthesizer:
    """Estimates the length, picks the shortest covering horizon, samples one batch a horizon, and prunes.

    `reward_arm` is None for generated rewards, else the learned model's or the environment's function.
    """

    def __init__(
        self,
        bank: DenoiserBank,
        estimator: LengthEstimator,
        config: SynthesisConfig,
        epsilon: float,
        reward_arm: RewardArm | None = None,
    ) -> None:
        self.bank = bank
        self.estimator = estimator
        self.config = config
        self.epsilon = epsilon
        self.reward_arm = reward_arm
        self.adapted = False

    def __call__(self, states: Array, tasks: Array, generator: torch.Generator) -> list[Imagined]:
        """One trajectory from each of `states [B, O]` under `tasks [B, K]`, in the order of the states."""
        lengths = self.estimate_lengths(states, tasks)
        horizons = self.bank.shortest_cover(lengths)
        original = np.zeros(len(states), dtype=bool)
        if self.adapted:
            original = (torch.rand(len(states), generator=generator) < self.config.original_share).numpy()
        imagined: dict[int, Imagined] = {}
        for horizon in self.bank.horizons:
            for denoisers, chosen in ((self.bank.current, ~original), (self.bank.original, original)):
                group = np.flatnonzero((horizons == horizon) & chosen)
                if len(group):
                    trajectories = self.sample(denoisers[horizon], states[group], tasks[group], lengths[group], generator)
                    imagined.update(zip(group.tolist(), trajectories, strict=True))
        return [imagined[i] for i in range(len(states))]

    def estimate_lengths(self, states: Array, tasks: Array) -> Array:
        """The configured quantile of the remaining steps, `[B]`, at least 1."""
        column = QUANTILES.index(self.config.length_quantile)
        return np.maximum(1.0, self.estimator.predict(states, tasks)[:, column])

    def sample(self, denoiser: Denoiser, states: Array, tasks: Array, lengths: Array, generator: torch.Generator) -> list[Imagined]:
        """One batch from one denoiser, each window labelled by the reward arm and pruned to its length."""
        normalizer = denoiser.normalizer
        rows = denoiser.sample(states, tasks, self.config.sampler, generator)
        window_states, actions, outcomes = normalizer.split(rows)
        window_states[:, 0] = states  # exactly, not but for rounding
        result: list[Imagined] = []
        for i, task in enumerate(tasks):
            outcome = normalizer.outcomes(outcomes[i])
            ended = outcome[1]
            if self.reward_arm is not None:
                outcome = self.reward_arm(window_states[i, :-1], actions[i, :-1], window_states[i, 1:], task)
                ended = ended | outcome[1]
            rewarded = outcome[0] > normalizer.spec.reward_minimum
            pruned = prune(rows[i, :, : normalizer.spec.state_dim], rewarded, ended, round(float(lengths[i])), self.epsilon, self.config.prune)
            pruned = pruned.capped(self.config.maximum_length)
            transitions = pruned.rows[:-1]
            ends = bool(outcome[1][transitions[-1]])
            trajectory = Trajectory(
                window_states[i, pruned.rows],
                actions[i, transitions],
                outcome[0][transitions].astype(np.float32),
                task,
                terminated=ends,
                truncated=not ends,
            )
            result.append(Imagined(trajectory, denoiser.horizon, float(lengths[i]), pruned, window_states[i]))
        return result


def learned_rewards(model: RewardModel) -> RewardArm:
    """The reward arm that asks the fitted model."""
    return model.predict


def oracle_rewards(oracle: Callable[[Array, Array], Outcome]) -> RewardArm:
    """The reward arm that asks the environment's own reward function about next states `[T, O]` and the task `[K]`."""
    return lambda states, actions, next_states, task: oracle(next_states, task)
