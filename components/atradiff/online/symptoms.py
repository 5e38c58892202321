"""The failure signatures of the method, read off a run's metrics: what is seen, in plain words, and which setting to change.

The paper's summary names three: poor learning, scattered lengths, worse after an adaptation. That the two replays disagree is ours, and so
are all thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

Row = Mapping[str, Any]

PATIENCE_ENV_STEPS = 1_000
POOR_SUCCESS = 0.1
ENDED_SHARE = 0.5
LENGTH_ERROR = 0.5
FALL = 0.2
DISAGREEMENT = 3.0
FAR_APART = 100.0
"""A ratio beyond it says no more than that: one of the errors is next to nothing."""
DIVERGED = 2.0


class Symptom(NamedTuple):
    """`seen` is what is wrong, `remedy` what to do about it; `name` tells one kind from another."""

    name: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.seen}: {self.remedy}"


def find_symptoms(rows: Sequence[Row], largest_value: float | None = None, rolled_back: int = 0) -> list[Symptom]:
    """What the evaluations of one run show so far, oldest first in `rows`. No value can exceed `largest_value`, where that is known, and
    bad numbers have had the networks `rolled_back` so often. What is about imagination is looked for only where there is some, and what is
    about env steps and adaptation only online.
    """
    if not rows:
        return []
    last = rows[-1]
    found = [_diverging(last, largest_value), _rolled_back(rolled_back)]
    online = "env_steps" in last
    if last["replay/synthetic"]:
        found += [_poor_learning(rows) if online else None, _unfinished(last), _scattered(last)]
        found += [_worse_after_adaptation(rows), _disagreement(last)] if online else []
    return [symptom for symptom in found if symptom is not None]


def _diverging(last: Row, largest_value: float | None) -> Symptom | None:
    value = last.get("agent/critic/value")
    if value is None or largest_value is None or abs(value) < DIVERGED * largest_value or largest_value == 0:
        return None
    return Symptom(
        "diverging critics",
        f"the critics' mean value is {value:.3g}, and the rewards allow {largest_value:.3g} at most",
        "lower agent.critic_learning_rate or agent.utd_ratio, raise agent.num_min_critics, or set agent.layer_norm=true",
    )


def _rolled_back(times: int) -> Symptom | None:
    if times == 0:
        return None
    return Symptom(
        "bad numbers",
        f"NaN or infinity had the networks rolled back {times} time{'s' if times > 1 else ''}; what it arose in is in the run's bad-numbers files",
        "look there; lower agent.critic_learning_rate and agent.actor_learning_rate, or mend the environment",
    )


def _poor_learning(rows: Sequence[Row]) -> Symptom | None:
    last = rows[-1]
    best = max((row["eval/success_rate"] or 0.0 for row in rows), default=0.0)
    if last["eval/success_rate"] is None or last["env_steps"] < PATIENCE_ENV_STEPS or best >= POOR_SUCCESS:
        return None
    if last["synthesis/ended_share"] is None or last["synthesis/ended_share"] < ENDED_SHARE:
        return None
    return Symptom(
        "poor learning",
        f"imagined trajectories end in success, and the agent in {best:.0%} of its episodes at best after {last['env_steps']:,} env steps",
        "look at one_step_error and reward/precision in `dvc metrics show`; where they are bad, train longer (denoiser.train.gradient_steps), "
        "where they are good, raise agent.imitation_weight",
    )


def _unfinished(last: Row) -> Symptom | None:
    if last["synthesis/ended_share"] is None or last["synthesis/ended_share"] >= ENDED_SHARE:
        return None
    return Symptom(
        "saturated lengths",
        f"only {last['synthesis/ended_share']:.0%} of the latest imagined trajectories reach the end of the task",
        "raise synthesis.maximum_windows, add a longer horizon to denoiser.horizons, or, in a goal environment, set synthesis.waypoints.reach",
    )


def _scattered(last: Row) -> Symptom | None:
    error = last["synthesis/length_error"]
    if error is None or error < LENGTH_ERROR:
        return None
    return Symptom(
        "scattered lengths",
        f"imagined trajectories are {error:.0%} longer or shorter than the length estimator expects",
        "train it longer (length_estimator.train.gradient_steps), or trust it less (synthesis.prune.to_length=false)",
    )


def _worse_after_adaptation(rows: Sequence[Row]) -> Symptom | None:
    adapted = [(before, after) for before, after in pairwise(rows) if after["adaptation/count"] > before["adaptation/count"]]
    falls = [(a["eval/success_rate"] or 0.0) - (b["eval/success_rate"] or 0.0) for a, b in adapted]
    if not falls or falls[-1] < FALL:
        return None
    return Symptom(
        "worse after adaptation",
        f"success fell by {falls[-1]:.0%} with the last adaptation, at {adapted[-1][1]['env_steps']:,} env steps",
        "lower adaptation.learning_rate, raise synthesis.original_share, or switch adaptation off (adaptation.adapt_every=0)",
    )


def _disagreement(last: Row) -> Symptom | None:
    real, imagined = last["critic/error_online"], last["critic/error_imagined"]
    if real is None or imagined is None:
        return None
    larger, smaller = max(real, imagined), min(real, imagined)
    if larger <= DISAGREEMENT * smaller:
        return None
    more, less = ("real", "imagined") if real > imagined else ("imagined", "real")
    times = f"{larger / smaller:.1f}" if larger < FAR_APART * smaller else f"more than {FAR_APART:.0f}"
    return Symptom(
        "disagreement",
        f"the critics' error on {more} transitions is {times} times that on {less} ones",
        "the synthetic replay may not be true to the environment: adapt sooner (adaptation.adapt_every), or lower replay.synthetic_batch_ratio",
    )
