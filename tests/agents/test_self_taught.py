"""An agent that learns to collect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import toys
from atradiff.agents.self_taught import RANDOM_STEPS, SelfTaught
from atradiff.data.collect import CollectConfig, collecting_environment, play_episode

TRAINING = RANDOM_STEPS + 300
LEARNED = CollectConfig(transitions=300, quality="medium", training_steps=TRAINING)


def returns(config: CollectConfig, episodes: int, seed: int = 5) -> tuple[list[float], SelfTaught]:
    environment = collecting_environment(toys.BALANCE)
    heard: list[tuple[int, str]] = []
    controller = SelfTaught(environment, config, lambda *told: heard.append(told))
    assert [steps for steps, _ in heard] == sorted(steps for steps, _ in heard)
    assert [steps for steps, _ in heard[-1:]] == ([] if config.quality == "medium-replay" else [config.training_steps])
    assert all(note.startswith("return -") for _, note in heard)
    generator = np.random.default_rng(seed)
    return [float(sum(play_episode(environment.env, controller, generator, 1_000).rewards)) for _ in range(episodes)], controller


def test_it_does_better_after_learning_and_learns_no_more_while_it_collects() -> None:
    unlearned, _ = returns(replace(LEARNED, training_steps=30), 10)
    learned, controller = returns(LEARNED, 10)
    assert np.mean(learned) > 0.5 * np.mean(unlearned)  # they are negative
    assert controller._agent.gradient_steps == TRAINING - RANDOM_STEPS
    assert "after it had learned for 1300 env steps" in controller.algorithm


def test_a_replay_is_what_it_saw_while_it_learned() -> None:
    """Random at first, and so in all of the first steps."""
    seen, controller = returns(LEARNED.__class__(transitions=RANDOM_STEPS + 60, quality="medium-replay", training_steps=9), 36)
    assert controller._agent.gradient_steps == 60
    assert len(seen) == 36


def test_the_same_seed_collects_the_same() -> None:
    short = replace(LEARNED, training_steps=RANDOM_STEPS + 5)
    assert returns(short, 2)[0] == pytest.approx(returns(short, 2)[0], abs=0)
    assert returns(short, 2)[0] != returns(replace(short, seed=1), 2)[0]
