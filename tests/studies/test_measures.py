"""The figures of runs and of seeds, against slow references."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from atradiff.errors import UserError
from atradiff.studies import measures
from atradiff.studies.measures import (
    Curve,
    estimate,
    estimate_curve,
    estimate_ratio,
    falls,
    first_at_level,
    holds_from,
    interval,
    iqm,
    measure,
    regret,
    resample,
    steps_or_never,
)

RATES = st.lists(st.integers(0, 20).map(lambda count: count / 20), min_size=2, max_size=20)


def curve(success: list[float], every: int = 500) -> Curve:
    return Curve([every * i for i in range(len(success))], success)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- one run -----------------------------------------------------------------------------------------------------------


@given(RATES, st.integers(1, 40))
def test_regret_is_the_area_above_the_curve(success: list[float], every: int) -> None:
    """Against a sum over single env steps, each with the mean of its ends; the budget may lie between evaluations."""
    ours = curve(success, every)
    for budget in {every * (len(success) - 1), max(1, every * (len(success) - 1) - every // 2)}:
        line = [
            success[t // every] + (success[min(t // every + 1, len(success) - 1)] - success[t // every]) * (t % every) / every
            for t in range(budget + 1)
        ]
        slow = sum(1 - (line[t] + line[t + 1]) / 2 for t in range(budget))
        assert regret(ours, budget) == pytest.approx(slow)


def test_regret_needs_the_whole_curve() -> None:
    assert regret(curve([1.0, 1.0]), 500) == 0
    assert regret(curve([0.0, 0.0]), 500) == 500
    for broken in (Curve([], []), Curve([500, 1000], [1.0, 1.0]), curve([1.0, 1.0])):
        with pytest.raises(ValueError, match="from env step 0 to 1000"):
            regret(broken, 1000)


@given(RATES)
def test_the_level_is_reached_and_held(success: list[float]) -> None:
    ours = curve(success)
    reached = [step for step, value in zip(*ours, strict=True) if value >= 0.9]
    held = [step for i, step in enumerate(ours.env_steps) if min(success[i:]) >= 0.9]
    assert first_at_level(ours) == (min(reached) if reached else None)
    assert holds_from(ours) == (min(held) if held else None)


@given(RATES)
def test_falls_are_what_a_pattern_finds(success: list[float]) -> None:
    """Each fall takes the level, whatever follows without two in a row below, and then two in a row below."""
    word = "".join("A" if value >= 0.9 else "b" for value in success)
    assert falls(curve(success)) == len(re.findall(r"A(?:A|bA)*bb", word))


def test_one_bad_evaluation_is_no_fall() -> None:
    assert falls(curve([0.0, 1.0, 0.4, 1.0, 0.4, 1.0])) == 0
    assert falls(curve([0.0, 1.0, 0.4, 0.4, 0.4, 1.0, 0.0, 0.0])) == 2


def row(env_steps: int, success: float | None, episodes: int = 0, successes: int = 0) -> dict[str, object]:
    return {
        "env_steps": env_steps,
        "eval/success_rate": success,
        "online/episodes": episodes,
        "online/successes": successes,
        "time/seconds": env_steps / 10,
        "gradient_steps": 4 * env_steps,
    }


def test_a_run_in_figures() -> None:
    rows = [row(0, 0.0), row(500, 1.0, 4, 1), row(1000, 1.0, 9, 6)]
    assert measure(rows, 1000, "x") == (250.0, 500, 500, 0, 3, 100.0, 4000)
    with pytest.raises(UserError, match="x tells of no success"):
        measure([row(0, None), row(500, None)], 500, "x")


# --- several seeds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 14))
def test_iqm_is_scipys_trimmed_mean(count: int) -> None:
    values = generator().normal(size=(3, count))
    assert np.allclose(iqm(values), trim_mean(values, 0.25, axis=-1))
    assert np.allclose(iqm(values.T, axis=0), trim_mean(values, 0.25, axis=-1))


def test_resampling_stays_within_each_task() -> None:
    strata = [np.asarray([1.0, 2.0, 3.0]), np.asarray([10.0, 20.0])]
    draws = resample(strata, generator())
    assert draws.shape == (measures.RESAMPLES, 5)
    assert set(np.unique(draws[:, :3])) == {1.0, 2.0, 3.0}
    assert set(np.unique(draws[:, 3:])) == {10.0, 20.0}


def test_the_interval_holds_95_percent_of_the_draws() -> None:
    low, high = interval(generator().permutation(np.arange(1001.0)))
    assert (low, high) == (25.0, 975.0)


def test_an_estimate_against_a_slow_bootstrap() -> None:
    values = generator(1).normal(5, 2, size=8)
    found = estimate([values], generator())
    again = generator(7)
    slow = np.sort([trim_mean(again.choice(values, 8), 0.25) for _ in range(1000)])
    assert found.value == pytest.approx(trim_mean(values, 0.25))
    assert found.low == pytest.approx(slow[25], abs=0.25)
    assert found.high == pytest.approx(slow[975], abs=0.25)
    assert found == estimate([values], generator())
    moved = estimate([values + 3], generator())
    assert np.allclose(np.subtract(moved, found), 3)


def test_equal_seeds_leave_no_doubt() -> None:
    assert estimate([np.full(5, 2.0), np.full(3, 2.0)], generator()) == (2.0, 2.0, 2.0)
    assert estimate_ratio([np.full(5, 1.0)], [np.full(5, 4.0)], generator()) == (0.25, 0.25, 0.25)


def test_runs_that_never_got_there_are_infinite() -> None:
    few = estimate([steps_or_never([500, 500, 1000, None])], generator())
    assert (few.value, few.low, few.high) == (750.0, 500.0, math.inf)
    many = estimate([steps_or_never([500, None, None, None])], generator())
    assert many.value == math.inf


def test_a_ratio_covers_one_where_both_sides_are_alike_and_not_where_one_is_half() -> None:
    values = generator(2).normal(10, 1, size=8)
    alike = estimate_ratio([values], [generator(3).permutation(values)], generator())
    assert alike.value == pytest.approx(1.0)
    assert alike.low < 1 < alike.high
    half = estimate_ratio([values / 2], [values], generator())
    assert half.value == pytest.approx(0.5)
    assert half.high < 1


def test_a_control_without_regret() -> None:
    zero, one = [np.zeros(4)], [np.ones(4)]
    assert estimate_ratio(one, zero, generator()).value == math.inf
    assert estimate_ratio(zero, zero, generator()).value == 1.0


def test_a_band_lies_around_its_curve() -> None:
    success = np.clip(generator().normal(0.5, 0.2, size=(8, 6)), 0, 1)
    value, low, high = estimate_curve(success, generator())
    assert np.allclose(value, trim_mean(success, 0.25, axis=0))
    assert (low <= value).all()
    assert (value <= high).all()
    for column in range(6):
        alone = estimate([success[:, column]], generator(5))
        assert low[column] == pytest.approx(alone.low, abs=0.05)
        assert high[column] == pytest.approx(alone.high, abs=0.05)
