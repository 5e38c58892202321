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
from atradiff.trajectory import Array, BoolArray, IntArray, Trajectory

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
    maximum_windows: Annotated[int, Ge(1), Doc("Windows chained at most where the longest horizon does not cover the length; 1 is no chaining.")] = 8
    batch_size: Annotated[int, Ge(1), Doc("Requests gathered before they are served together.")] = 16
    original_share: Annotated[float, Ge(0), Le(1), Doc("Share of trajectories imagined by the original denoisers, once adapted ones exist.")] = 0.2
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    reward_model: RewardModelConfig = field(default_factory=RewardModelConfig)


class Window(NamedTuple):
    """One sample of a denoiser in the units of the task: states `[H, O]`, the same normalised `[H, O]`, actions `[H - 1, A]`,
    rewards `[H - 1]`, whether a transition ended the task `[H - 1]`, and whether the trajectory stops after it `[H - 1]`: the denoiser
    may think so where the reward arm does not."""

    states: Array
    normalised: Array
    actions: Array
    rewards: Array
    ended: BoolArray
    stops: BoolArray


class Imagined(NamedTuple):
    """One imagined trajectory with how it came about. `window_states [R, O]` is what was generated before pruning; `horizons` are
    those of the windows that were chained."""

    trajectory: Trajectory
    horizons: tuple[int, ...]
    estimated_length: float
    pruned: Pruned
    window_states: Array


class Synthesizer:
    """Estimates the length, picks the shortest covering horizon, samples one batch a horizon, and prunes.

    Where the longest horizon does not cover the length, the trajectory goes on from the window's last state, whose length is
    estimated anew (ours): windows are chained until one says that the task ends, or covers what is left.

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
        original = np.zeros(len(states), dtype=bool)
        if self.adapted:
            original = (torch.rand(len(states), generator=generator) < self.config.original_share).numpy()
        chains: list[list[Window]] = [[] for _ in states]
        going, here, remaining = np.arange(len(states)), states, lengths
        for _ in range(self.config.maximum_windows):
            self._extend(chains, going, here, tasks[going], remaining, original[going], generator)
            last = [chains[i][-1] for i in going]
            on = np.asarray([not w.stops.any() and n > len(w.actions) for w, n in zip(last, remaining, strict=True)])
            if not on.any():
                break
            going, here = going[on], np.stack([chains[i][-1].states[-1] for i in going[on]])
            remaining = self.estimate_lengths(here, tasks[going])
        return [self._finish(chain, task, float(n)) for chain, task, n in zip(chains, tasks, lengths, strict=True)]

    def _extend(
        self,
        chains: list[list[Window]],
        going: IntArray,
        states: Array,
        tasks: Array,
        lengths: Array,
        original: BoolArray,
        generator: torch.Generator,
    ) -> None:
        """Append to each chain in `going [G]` the window that begins in its state `[G, O]`; one batch for each denoiser."""
        horizons = self.bank.shortest_cover(lengths)
        for horizon in self.bank.horizons:
            for denoisers, chosen in ((self.bank.current, ~original), (self.bank.original, original)):
                group = np.flatnonzero((horizons == horizon) & chosen)
                if len(group):
                    windows = self._windows(denoisers[horizon], states[group], tasks[group], generator)
                    for i, window in zip(going[group], windows, strict=True):
                        chains[i].append(window)

    def estimate_lengths(self, states: Array, tasks: Array) -> Array:
        """The configured quantile of the remaining steps, `[B]`, at least 1."""
        column = QUANTILES.index(self.config.length_quantile)
        return np.maximum(1.0, self.estimator.predict(states, tasks)[:, column])

    def sample(self, denoiser: Denoiser, states: Array, tasks: Array, lengths: Array, generator: torch.Generator) -> list[Imagined]:
        """One window from one denoiser for each state, pruned to its length."""
        windows = self._windows(denoiser, states, tasks, generator)
        return [self._finish([window], task, float(n)) for window, task, n in zip(windows, tasks, lengths, strict=True)]

    def _windows(self, denoiser: Denoiser, states: Array, tasks: Array, generator: torch.Generator) -> list[Window]:
        """One batch from one denoiser, labelled by the reward arm."""
        normalizer = denoiser.normalizer
        rows = denoiser.sample(states, tasks, self.config.sampler, generator)
        window_states, actions, outcomes = normalizer.split(rows)
        window_states[:, 0] = states  # exactly, not but for rounding
        windows: list[Window] = []
        for i, task in enumerate(tasks):
            rewards, ended = normalizer.outcomes(outcomes[i])
            stops = ended
            if self.reward_arm is not None:
                rewards, ended = self.reward_arm(window_states[i, :-1], actions[i, :-1], window_states[i, 1:], task)
                stops = stops | ended
            windows.append(Window(window_states[i], rows[i, :, : normalizer.spec.state_dim], actions[i, :-1], rewards, ended, stops))
        return windows

    def _finish(self, chain: list[Window], task: Array, length: float) -> Imagined:
        """Join the windows of a chain and prune them as one."""
        states = np.concatenate([chain[0].states[:1], *(window.states[1:] for window in chain)])
        normalised = np.concatenate([chain[0].normalised[:1], *(window.normalised[1:] for window in chain)])
        actions, rewards = np.concatenate([w.actions for w in chain]), np.concatenate([w.rewards for w in chain])
        ended, stops = np.concatenate([w.ended for w in chain]), np.concatenate([w.stops for w in chain])
        rewarded = rewards > self.estimator.normalizer.spec.reward_minimum
        pruned = prune(normalised, rewarded, stops, round(length), self.epsilon, self.config.prune).capped(self.config.maximum_length)
        transitions = pruned.rows[:-1]
        ends = bool(ended[transitions[-1]])
        trajectory = Trajectory(
            states[pruned.rows], actions[transitions], rewards[transitions].astype(np.float32), task, terminated=ends, truncated=not ends
        )
        return Imagined(trajectory, tuple(len(window.states) for window in chain), length, pruned, states)


def learned_rewards(model: RewardModel) -> RewardArm:
    """The reward arm that asks the fitted model."""
    return model.predict


def oracle_rewards(oracle: Callable[[Array, Array], Outcome]) -> RewardArm:
    """The reward arm that asks the environment's own reward function about next states `[T, O]` and the task `[K]`."""
    return lambda states, actions, next_states, task: oracle(next_states, task)
