"""How far imagination is from reality, as a run finds it: the shift of the task, measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from atradiff.data.normalizer import Normalizer
from atradiff.synthesis.synthesizer import Synthesizer
from atradiff.trajectory import Array, Trajectory

STARTS = 64
"""Real states from which imagined steps are compared with real ones."""
PROJECTIONS = 64


class Distances(NamedTuple):
    """How far imagination was from reality before and after the adaptation at `env_steps`."""

    env_steps: int
    before: float
    after: float


def imagination_distance(synthesizer: Synthesizer, step_scale: Array, real: list[Trajectory], generator: torch.Generator) -> float:
    """The sliced Wasserstein distance between real steps and imagined ones that begin in the same states.

    A step is (s, a, s' - s), each entry in the offline data's standard deviations of it, for the last in `step_scale [O]`. From some real
    states imagination goes on for a window, and reality for as many steps as that has.
    """
    lengths = np.cumsum([len(trajectory) for trajectory in real])
    drawn = torch.randint(int(lengths[-1]), (STARTS,), generator=generator).numpy()
    sources = np.searchsorted(lengths, drawn, side="right")
    starts = [(real[k], int(step - lengths[k] + len(real[k]))) for k, step in zip(sources, drawn, strict=True)]
    states, tasks = np.stack([t.states[i] for t, i in starts]), np.stack([t.task for t, _ in starts])
    windows = synthesizer.first_windows(states, tasks, generator)
    normalizer = synthesizer.estimator.normalizer
    imagined = [steps(w.states, w.actions, normalizer, step_scale) for w in windows]
    followed = [
        steps(t.states[i : i + len(w.actions) + 1], t.actions[i : i + len(w.actions)], normalizer, step_scale)
        for (t, i), w in zip(starts, windows, strict=True)
    ]
    return sliced_wasserstein(np.concatenate(imagined), np.concatenate(followed), generator)


def steps(states: Array, actions: Array, normalizer: Normalizer, step_scale: Array) -> Array:
    """(s, a, s' - s) `[T, O + A + O]` of states `[T + 1, O]` and actions `[T, A]`, in standard deviations."""
    return np.concatenate([normalizer.states(states[:-1]), normalizer.actions(actions), np.diff(states, axis=0) / step_scale], axis=-1, dtype=np.float32)


def sliced_wasserstein(a: Array, b: Array, generator: torch.Generator) -> float:
    """The sliced Wasserstein distance of two samples `[N, D]` and `[M, D]` (Rabin et al. 2011), in their unit.

    The mean over random directions of W1 between the projections, which is the mean distance of equal quantiles.
    """
    directions = torch.randn(a.shape[1], PROJECTIONS, generator=generator).numpy()
    directions /= np.linalg.norm(directions, axis=0)
    levels = (np.arange(min(len(a), len(b))) + 0.5) / min(len(a), len(b))
    first, second = (np.sort(sample @ directions, axis=0)[(levels * len(sample)).astype(int)] for sample in (a, b))
    return float(np.abs(first - second).mean())
