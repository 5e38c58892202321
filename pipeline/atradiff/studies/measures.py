"""What one run comes to, and what several seeds say together. Success rates in [0, 1] over env steps; numpy only.

The figures over seeds follow Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice": the
interquartile mean with percentile intervals of a bootstrap that is stratified over tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atradiff.errors import UserError

Floats = NDArray[np.float64]
LEVEL = 0.9
CONFIDENCE = 0.95
RESAMPLES = 2_000


class Curve(NamedTuple):
    """Evaluations of one run: `success [E]` at `env_steps [E]`, ascending from 0 to the budget."""

    env_steps: list[int]
    success: list[float]


class Measures(NamedTuple):
    """One run in figures. Steps that were never reached are None."""

    regret: float
    """Area above the success curve from env step 0 to the budget, in env steps."""
    first_at_level: int | None
    """The first evaluated env step with success 0.9 or more."""
    holds_from: int | None
    """The first evaluated env step from which success stays at 0.9 or more to the end."""
    falls: int
    """How often success had reached 0.9 and then lay below it for two evaluations running."""
    failed_episodes: int
    """Training episodes that ended without success."""
    seconds: float
    """Wall-clock of the online run."""
    gradient_steps: int


class Estimate(NamedTuple):
    """A figure over seeds with its bootstrap interval; infinite where too many runs never got there."""

    value: float
    low: float
    high: float


# --- one run -----------------------------------------------------------------------------------------------------------


def curve_of(rows: Sequence[Mapping[str, Any]], name: str) -> Curve:
    """The success curve in a run's metrics; `name` is told where there is none."""
    success = [row["eval/success_rate"] for row in rows]
    if any(value is None for value in success):
        raise UserError(f"{name} tells of no success: a study measures success, so give the task an environment whose info has it")
    return Curve([int(row["env_steps"]) for row in rows], [float(value) for value in success])


def measure(rows: Sequence[Mapping[str, Any]], budget: int, name: str) -> Measures:
    """All figures of one run of `budget` env steps from its metrics."""
    curve, last = curve_of(rows, name), rows[-1]
    return Measures(
        regret=regret(curve, budget),
        first_at_level=first_at_level(curve),
        holds_from=holds_from(curve),
        falls=falls(curve),
        failed_episodes=int(last["online/episodes"] - last["online/successes"]),
        seconds=float(last["time/seconds"]),
        gradient_steps=int(last["gradient_steps"]),
    )


def regret(curve: Curve, budget: int) -> float:
    """Area above the curve from env step 0 to `budget`, in env steps: trapezoids between evaluations."""
    steps, success = np.asarray(curve.env_steps, np.float64), np.asarray(curve.success, np.float64)
    if not len(steps) or steps[0] != 0 or steps[-1] < budget:
        raise ValueError(f"the curve must reach from env step 0 to {budget}")
    knots = np.append(steps[steps < budget], budget)
    above = 1.0 - np.interp(knots, steps, success)
    return float(((above[1:] + above[:-1]) / 2 * np.diff(knots)).sum())


def first_at_level(curve: Curve) -> int | None:
    """The first evaluated env step at the level, or None."""
    return next((step for step, value in zip(*curve, strict=True) if value >= LEVEL), None)


def holds_from(curve: Curve) -> int | None:
    """The first evaluated env step from which all evaluations are at the level, or None where the last one is not."""
    below = [i for i, value in enumerate(curve.success) if value < LEVEL]
    first = below[-1] + 1 if below else 0
    return curve.env_steps[first] if first < len(curve.env_steps) else None


def falls(curve: Curve) -> int:
    """How often the level, once reached, was lost for two evaluations running."""
    count, held, below = 0, False, 0
    for value in curve.success:
        below = 0 if value >= LEVEL else below + 1
        held = held or value >= LEVEL
        if held and below == 2:
            count, held = count + 1, False
    return count


# --- several seeds -----------------------------------------------------------------------------------------------------


def iqm(values: Floats, axis: int = -1) -> Floats:
    """The interquartile mean: the mean without the lowest and the highest quarter (whole values, rounded down)."""
    ordered = np.sort(values, axis=axis)
    count = ordered.shape[axis]
    return np.take(ordered, np.arange(count // 4, count - count // 4), axis=axis).mean(axis=axis)


def estimate(strata: Sequence[Floats], generator: np.random.Generator) -> Estimate:
    """The IQM over all values and its interval. Each of `strata` holds the values `[S]` of one task's seeds."""
    return Estimate(float(iqm(np.concatenate(strata))), *interval(iqm(resample(strata, generator))))


def estimate_ratio(strata: Sequence[Floats], control: Sequence[Floats], generator: np.random.Generator) -> Estimate:
    """The ratio of two IQMs and its interval; both sides are resampled, each task's seeds among themselves."""
    value = _ratio(iqm(np.concatenate(strata)), iqm(np.concatenate(control)))
    return Estimate(float(value), *interval(_ratio(iqm(resample(strata, generator)), iqm(resample(control, generator)))))


def estimate_curve(success: Floats, generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """IQM, low and high `[E]` of the curves `[S, E]` of several seeds; whole curves are resampled."""
    picked = success[generator.integers(len(success), size=(RESAMPLES, len(success)))]
    draws = np.sort(iqm(picked, axis=1), axis=0)
    low, high = _tails(len(draws))
    return iqm(success, axis=0), draws[low], draws[high]


def resample(strata: Sequence[Floats], generator: np.random.Generator) -> Floats:
    """Bootstrap samples `[R, N]`: every stratum drawn with replacement from itself."""
    return np.concatenate([values[generator.integers(len(values), size=(RESAMPLES, len(values)))] for values in strata], axis=1)


def interval(draws: Floats) -> tuple[float, float]:
    """The percentile interval of draws `[R]`: two of the draws, so that infinite ones do no harm."""
    ordered = np.sort(draws)
    low, high = _tails(len(draws))
    return float(ordered[low]), float(ordered[high])


def _tails(count: int) -> tuple[int, int]:
    """Indices of the interval's ends among `count` ordered draws, rounded outwards."""
    tail = (1 - CONFIDENCE) / 2 * (count - 1)
    return math.floor(tail), count - 1 - math.floor(tail)


def _ratio(ours: Floats, control: Floats) -> Floats:
    """Ours over the control's; 1 where both are 0, infinite where only the control's is."""
    safe = np.where(control > 0, control, 1.0)
    return np.where(control > 0, ours / safe, np.where(ours > 0, np.inf, 1.0))


def steps_or_never(values: Sequence[int | None]) -> Floats:
    """Steps as numbers, `inf` for never."""
    return np.asarray([math.inf if value is None else value for value in values], np.float64)
