"""Which action led from one state to the next in the offline data: the measure of what actuators do elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atradiff.data.normalizer import MINIMUM_SCALE
from atradiff.data.store import OfflineData
from atradiff.trajectory import Array, IntArray

STEPS = 200_000
"""Transitions that are looked at, at most; they are spread over the data."""
RIDGE = 1e-4
"""Of each input's variance: positions and velocities may tell the same, as in x' = x + v dt."""


@dataclass(frozen=True)
class InverseDynamics:
    """The action is `weights [2 O, A]` of (s, s' - s), less `mean [2 O]` and over `scale [2 O]`, and `offset [A]`, by ridge regression;
    `explained [A]` is the share of its variance.

    Linear on purpose: a network fits the offline data better, but takes a bounce off a wall, which no action could have made, for the
    effect of an ordinary action; the linear model asks for an impossible one, so that it can be left out.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    offset: NDArray[np.float64]
    explained: NDArray[np.float64]

    @property
    def unexplained(self) -> NDArray[np.float64]:
        """Standard deviation `[A]` of what is not explained, over the actions' own."""
        return np.sqrt(1 - np.clip(self.explained, 0, 1))

    def __call__(self, states: Array, next_states: Array) -> NDArray[np.float64]:
        """The actions `[N, A]` that led from `states [N, O]` to `next_states [N, O]`; not clipped to their range."""
        return (_inputs(states, next_states) - self.mean) / self.scale @ self.weights + self.offset


def fit_inverse_dynamics(data: OfflineData) -> InverseDynamics:
    """The inverse dynamics of `data`."""
    rows = _spread(data)
    inputs, actions = _inputs(data.states[rows], data.states[rows + 1]), data.actions[rows].astype(np.float64)
    mean, scale, offset = inputs.mean(0), np.maximum(inputs.std(0), MINIMUM_SCALE), actions.mean(0)
    inputs, centred = (inputs - mean) / scale, actions - offset
    moments = inputs.T @ inputs / len(inputs) + RIDGE * np.eye(inputs.shape[1])
    weights = np.linalg.solve(moments, inputs.T @ centred / len(inputs))
    explained = 1 - (centred - inputs @ weights).var(0) / np.maximum(centred.var(0), MINIMUM_SCALE)
    return InverseDynamics(mean, scale, weights, offset, explained)


def step_scale(data: OfflineData) -> Array:
    """The standard deviation `[O]` of s' - s."""
    rows = _spread(data)
    return np.maximum((data.states[rows + 1] - data.states[rows]).std(0, dtype=np.float64), MINIMUM_SCALE).astype(np.float32)


def _inputs(states: Array, next_states: Array) -> NDArray[np.float64]:
    return np.concatenate([states, next_states - states], axis=-1, dtype=np.float64)


def _spread(data: OfflineData) -> IntArray:
    return data.transition_rows(step=-(-data.num_transitions // STEPS))
