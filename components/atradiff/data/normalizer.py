"""Maps rows between the units of the task and those of the denoiser, and snaps sparse rewards back to their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from atradiff.data.store import OfflineData
from atradiff.trajectory import Array, BoolArray, IntArray, Spec

MINIMUM_SCALE = 1e-6
BLOCK = 32_768
"""Rows whose sums are taken at once."""


@dataclass(frozen=True)
class Normalizer:
    """Rows `[..., C]` of C = O + A + 3 channels: states and actions standardised, the reward and the final reward mapped to [-1, 1], and
    the end channel, which already is. Tasks are standardised.

    A channel that never changes in the data keeps scale 1, so that it is carried and not blown up.
    """

    spec: Spec
    row_mean: Array
    row_scale: Array
    task_mean: Array
    task_scale: Array

    @classmethod
    def of(cls, data: OfflineData) -> Normalizer:
        """Statistics of the transitions (closing rows count for states only)."""
        state_mean, state_std = _moments(lambda block: data.states[block], len(data.rows))
        action_mean, action_std = _moments(lambda block: data.actions[_transitions(data, block)], data.num_transitions)
        low, high = _range(lambda block: data.rewards[_transitions(data, block)], data.num_transitions)
        mean = [*state_mean, *action_mean, (low + high) / 2, 0.0, (low + high) / 2]
        scale = [*state_std, *action_std, (high - low) / 2, 1.0, (high - low) / 2]
        return cls(
            spec=data.spec,
            row_mean=np.asarray(mean, np.float32),
            row_scale=_safe_scale(np.asarray(scale)),
            task_mean=data.tasks.mean(0, dtype=np.float64).astype(np.float32),
            task_scale=_safe_scale(data.tasks.std(0, dtype=np.float64)),
        )

    @property
    def num_channels(self) -> int:
        return len(self.row_mean)

    def rows(self, states: Array, actions: Array, outcome: Array) -> Array:
        """Stack and normalise states `[..., O]`, actions `[..., A]` and outcome `[..., 3]` (reward, end, final reward) into `[..., C]`."""
        return ((np.concatenate([states, actions, outcome], axis=-1) - self.row_mean) / self.row_scale).astype(np.float32)

    def split(self, rows: Array) -> tuple[Array, Array, Array]:
        """The inverse of `rows`; actions are clipped to their range."""
        values = rows * self.row_scale + self.row_mean
        o, a = self.spec.state_dim, self.spec.action_dim
        actions = np.clip(values[..., o : o + a], self.spec.action_low, self.spec.action_high).astype(np.float32)
        return values[..., :o], actions, values[..., o + a :]

    def outcomes(self, outcome: Array) -> tuple[Array, BoolArray]:
        """Rewards `[..., H - 1]` and terminations `[..., H - 1]` of the transitions in windows' outcome channels `[..., H, 3]`.

        The first one that ends the task takes its reward from the final-reward channel, all others theirs from the reward channel; both are
        snapped where rewards are sparse.
        """
        ended = self.ended(outcome)
        rewards = self.snap_rewards(outcome[..., :-1, 0])
        for window in map(tuple, np.argwhere(ended.any(-1))):
            rewards[window][ended[window].argmax()] = self.snap_rewards(outcome[window][:, 2].mean(keepdims=True))[0]
        return rewards, ended

    def ended(self, outcome: Array) -> BoolArray:
        """The terminations alone: a transition ends the task if the end channel is below zero in the row after it."""
        return outcome[..., 1:, 1] < 0

    def snap_rewards(self, rewards: Array) -> Array:
        """The nearest of the task's few reward values; unchanged where rewards are continuous."""
        if not self.spec.reward_values:
            return rewards.astype(np.float32)
        values = np.asarray(self.spec.reward_values, np.float32)
        midpoints = (values[1:] + values[:-1]) / 2
        return values[np.searchsorted(midpoints, rewards)]

    def states(self, states: Array) -> Array:
        """Normalise states `[..., O]`."""
        o = self.spec.state_dim
        return ((states - self.row_mean[:o]) / self.row_scale[:o]).astype(np.float32)

    def actions(self, actions: Array) -> Array:
        """Normalise actions `[..., A]`."""
        channels = slice(self.spec.state_dim, self.spec.state_dim + self.spec.action_dim)
        return ((actions - self.row_mean[channels]) / self.row_scale[channels]).astype(np.float32)

    def tasks(self, tasks: Array) -> Array:
        """Normalise tasks `[..., K]`."""
        return ((tasks - self.task_mean) / self.task_scale).astype(np.float32)


def _transitions(data: OfflineData, block: slice) -> IntArray:
    return data.transition_rows(block.start, block.stop)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def _moments(values: Callable[[slice], Array], count: int) -> tuple[Array, Array]:
    """Mean and standard deviation `[D]` of `count` values `[D]`, which are asked for in blocks so that no copy of all is made."""
    mean = np.sum([values(block).sum(0, dtype=np.float64) for block in _blocks(count)], axis=0) / count
    variance = np.sum([np.square(values(block) - mean).sum(0) for block in _blocks(count)], axis=0) / count
    return mean, np.sqrt(variance)


def _range(values: Callable[[slice], Array], count: int) -> tuple[float, float]:
    blocks = [values(block) for block in _blocks(count)]
    return float(min(block.min() for block in blocks)), float(max(block.max() for block in blocks))


def _safe_scale(scale: np.ndarray) -> Array:
    return np.where(scale < MINIMUM_SCALE, 1.0, scale).astype(np.float32)
