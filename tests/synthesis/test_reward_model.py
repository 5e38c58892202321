"""The reward model of the learned arm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import toys
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData, stack_trajectories
from atradiff.diffusion.training import TrainConfig, fit
from atradiff.synthesis.length_estimator import EstimatorNetworkConfig
from atradiff.synthesis.reward_model import Outcomes, RewardModel


def fresh(normalizer: Normalizer) -> RewardModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return RewardModel(normalizer, EstimatorNetworkConfig(width=64, depth=2))


@pytest.fixture(scope="module")
def fitted(normalizer: Normalizer) -> RewardModel:
    model = fresh(normalizer)
    outcomes = Outcomes(toys.make_offline(300, seed=5), model)
    fit(model, lambda g: outcomes.sample(128, g), TrainConfig(gradient_steps=400, learning_rate=3e-3), toys.generator())
    return model


def test_half_of_a_batch_is_rare(offline: OfflineData, normalizer: Normalizer) -> None:
    batch = Outcomes(offline, fresh(normalizer)).sample(64, toys.generator())
    assert (batch.reward[:32] == 1).all()
    assert (batch.terminated[:32] == 1).all()
    assert (batch.reward[32:] == -1).float().mean() > 0.7
    assert batch.inputs.shape == (64, 2 + 2 + 2 + 2)


def test_without_rare_ones_batches_are_uniform(normalizer: Normalizer) -> None:
    data = stack_trajectories([toys.rewarded_trajectory([0.0] * 5, False)], toys.SPEC)
    batch = Outcomes(data, fresh(normalizer)).sample(16, toys.generator())
    assert (batch.terminated == 0).all()
    assert len(batch.reward) == 16


def test_a_truncation_is_no_termination(normalizer: Normalizer) -> None:
    """The last transition of a truncated episode is labelled like any other, rewarded or not."""
    data = stack_trajectories([toys.rewarded_trajectory([0.0, 1.0], False), toys.rewarded_trajectory([0.0, 1.0], True)], toys.SPEC)
    outcomes = Outcomes(data, fresh(normalizer))
    assert outcomes._terminated.tolist() == [0, 0, 0, 1]
    assert outcomes._reward.tolist() == [-1, 1, -1, 1]


def test_it_tells_arrivals_from_other_steps(fitted: RewardModel, held_out: OfflineData) -> None:
    said_rewards, true_rewards, said_ends, true_ends = [], [], [], []
    for t in held_out.trajectories():
        rewards, ended = fitted.predict(t.states[:-1], t.actions, t.states[1:], t.task)
        assert set(rewards.tolist()) <= {0.0, 1.0}  # snapped
        said_rewards.append(rewards)
        true_rewards.append(t.rewards)
        said_ends.append(ended)
        true_ends.append(np.arange(len(t)) == (len(t) - 1 if t.terminated else -1))
    for said, true in ((said_rewards, true_rewards), (said_ends, true_ends)):
        a, b = np.concatenate(said) > 0, np.concatenate(true) > 0
        assert (a & b).sum() / b.sum() > 0.8
        assert (a != b).mean() < 0.1
