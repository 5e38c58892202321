"""Each failure signature is told where it shows, and nothing is told of a run that goes well or imagines nothing."""

from __future__ import annotations

from typing import Any

import pytest

from atradiff.online.symptoms import find_symptoms

WELL = {
    "env_steps": 2_000,
    "eval/success_rate": 0.8,
    "replay/synthetic": 5_000,
    "synthesis/ended_share": 1.0,
    "synthesis/length_error": 0.1,
    "adaptation/count": 0,
    "critic/error_online": 0.02,
    "critic/error_imagined": 0.01,
}


def row(**changes: Any) -> dict[str, Any]:
    return {**WELL, **{name.replace("__", "/"): value for name, value in changes.items()}}


def test_a_run_that_goes_well_has_none() -> None:
    assert find_symptoms([row(env_steps=0, critic__error_online=None), row()]) == []


def test_a_run_without_imagination_has_none() -> None:
    nothing = dict.fromkeys(("synthesis/ended_share", "synthesis/length_error", "critic/error_imagined"))
    assert find_symptoms([{**WELL, **nothing, "replay/synthetic": 0, "eval/success_rate": 0.0}]) == []
    assert find_symptoms([]) == []


@pytest.mark.parametrize(
    ("rows", "name", "seen", "remedy"),
    [
        ([row(eval__success_rate=0.0)], "poor learning", "0% of its episodes at best after 2,000", "imitation_weight"),
        ([row(synthesis__ended_share=0.25)], "saturated lengths", "only 25%", "maximum_windows"),
        ([row(synthesis__length_error=0.75)], "scattered lengths", "75% longer or shorter", "length_estimator.train"),
        ([row(), row(eval__success_rate=0.5, adaptation__count=1)], "worse after adaptation", "fell by 30%", "original_share"),
        ([row(critic__error_online=0.05)], "disagreement", "real transitions is 5.0 times that on imagined", "synthetic_batch_ratio"),
        ([row(critic__error_online=0.0)], "disagreement", "error on imagined transitions is more than 100 times that on real", "adapt_every"),
        ([row(critic__error_imagined=1e-12)], "disagreement", "error on real transitions is more than 100 times that on imagined", "adapt_every"),
    ],
)
def test_what_is_wrong_is_told_with_the_setting_to_change(rows: list[dict[str, Any]], name: str, seen: str, remedy: str) -> None:
    (symptom,) = find_symptoms(rows)
    assert symptom.name == name
    assert seen in symptom.seen
    assert remedy in str(symptom)


@pytest.mark.parametrize(
    "rows",
    [
        [row(eval__success_rate=0.0, env_steps=999)],
        [row(eval__success_rate=0.5, env_steps=0), row(eval__success_rate=0.0)],
        [row(eval__success_rate=None)],
        [row(synthesis__ended_share=None, synthesis__length_error=None)],
        [row(), row(eval__success_rate=0.5)],
        [row(adaptation__count=1), row(eval__success_rate=0.5, adaptation__count=1)],
        [row(synthesis__ended_share=0.5, synthesis__length_error=None)],
        [row(critic__error_online=0.0, critic__error_imagined=0.0)],
    ],
)
def test_too_early_or_another_cause_is_no_symptom(rows: list[dict[str, Any]]) -> None:
    assert find_symptoms(rows) == []


def test_critics_beyond_what_the_rewards_allow() -> None:
    """In any arm, imagination or not; where nothing was rewarded yet there is nothing to hold values against."""
    rows = [{**WELL, "replay/synthetic": 0, "agent/critic/value": -30.0}]
    (symptom,) = find_symptoms(rows, 10.0)
    assert symptom.name == "diverging critics"
    assert "-30" in symptom.seen
    assert "agent.critic_learning_rate" in symptom.remedy
    assert not find_symptoms(rows, 20.0)
    assert not find_symptoms(rows, 0.0)
    assert not find_symptoms(rows)


def test_networks_that_were_rolled_back_are_told() -> None:
    (symptom,) = find_symptoms([row()], rolled_back=2)
    assert "rolled back 2 times" in symptom.seen
