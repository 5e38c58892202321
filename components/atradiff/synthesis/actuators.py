"""What each actuator does now, beside what it did in the offline data: found from real steps, applied to imagined actions (ours).

The denoisers cannot learn it: that an action changes the state just so is a relation that the data never breaks, so it lies in the
Gaussian's directions, which stay as they are (`diffusion/preconditioner.py`). So the denoisers go on in the offline data's actions, and
their windows are translated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atradiff.synthesis.inverse_dynamics import InverseDynamics
from atradiff.trajectory import Array, Spec, Trajectory

PLAUSIBLE = 1.2
"""Half action ranges: a step that would have needed more in the offline data is a collision, or tells no more than a smaller one."""
EVIDENCE = 0.5
"""Squared half action ranges that real steps must sum up to before they tell anything."""
EXPLAINED = 0.5
"""Of the variance of an action in the offline data: an actuator of whose action the inverse dynamics explain less is not measured."""
SMALLEST = 0.05
"""Of the offline strength: a weaker actuator is beyond help, and its sign beyond telling."""


@dataclass(frozen=True)
class Actuators:
    """Every actuator has `strength [A]` times its offline effect; an action is counted from the middle of its range."""

    spec: Spec
    strength: Array

    def to_now(self, actions: Array) -> Array:
        """What to do now in place of the offline data's `actions [..., A]`, as far as the range allows."""
        middle, _ = _middle_and_half(self.spec)
        return np.clip(middle + (actions - middle) / self.strength, self.spec.action_low, self.spec.action_high).astype(np.float32)

    def to_offline(self, actions: Array) -> Array:
        """What would have had the effect of `actions [..., A]` in the offline data; may be beyond the range."""
        middle, _ = _middle_and_half(self.spec)
        return (middle + (actions - middle) * self.strength).astype(np.float32)


def measure_strength(real: list[Trajectory], inverse: InverseDynamics, spec: Spec) -> Array:
    """The strengths `[A]` of the actuators under which the actions of `real` had the effects for which the offline data needed those that `inverse` tells.

    Of each actuator the strength k minimises the sum of |told| |done - told / k|: 1 / k is a weighted median of done / told, in which a step
    counts by told^2. So steps against a wall, which move nothing, hardly count, and those that bounce off are outvoted. An actuator that has
    hardly moved anything is taken to be as it was.
    """
    middle, half = _middle_and_half(spec)
    states, next_states = (np.concatenate([t.states[rows] for t in real]) for rows in (slice(-1), slice(1, None)))
    done, told = np.concatenate([t.actions for t in real]), inverse(states, next_states)
    strengths = [
        _strength((done[:, i] - middle[i]) / half[i], (told[:, i] - middle[i]) / half[i]) if inverse.explained[i] >= EXPLAINED else 1.0
        for i in range(spec.action_dim)
    ]
    return np.asarray(strengths, np.float32)


def _strength(done: NDArray[np.floating], told: NDArray[np.floating]) -> float:
    kept = np.abs(told) <= PLAUSIBLE
    done, told = done[kept], told[kept]
    weights = told**2
    if weights.sum() < EVIDENCE:
        return 1.0
    ratios = done / np.where(told == 0, 1.0, told)
    order = np.argsort(ratios)
    median = ratios[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)]
    return float(np.copysign(max(SMALLEST, 1 / max(abs(median), SMALLEST)), median))


def _middle_and_half(spec: Spec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middle `[A]` of the action range and half of its width `[A]`."""
    low, high = np.asarray(spec.action_low, np.float64), np.asarray(spec.action_high, np.float64)
    return (low + high) / 2, (high - low) / 2
