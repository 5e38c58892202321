"""The length estimator: pinball loss, what censoring may and may not do, and calibration on a toy whose quantiles are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import toys
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.diffusion.training import TrainConfig, fit
from atradiff.synthesis.length_estimator import QUANTILES, EstimatorNetworkConfig, LengthEstimator, StateBatch, States, pinball_loss

steps_lists = st.lists(st.floats(1, 50, width=16), min_size=1, max_size=20)
Q = torch.tensor(QUANTILES)


@given(steps_lists, st.floats(0, 60, width=16))
def test_pinball_loss_is_the_textbooks(steps: list[float], predicted: float) -> None:
    loss = pinball_loss(torch.full((len(steps), 3), predicted), torch.tensor(steps), torch.zeros(len(steps), dtype=torch.bool), Q)
    for i, value in enumerate(steps):
        for k, q in enumerate(QUANTILES):
            expected = q * (value - predicted) if value >= predicted else (1 - q) * (predicted - value)
            assert float(loss[i, k]) == pytest.approx(expected, abs=1e-4)


def test_its_minimum_is_the_quantile() -> None:
    steps = torch.rand(2_001, generator=toys.generator()) * 40
    candidates = torch.linspace(0, 40, 401)
    uncensored = torch.zeros(len(steps), dtype=torch.bool)
    losses = torch.stack([pinball_loss(c.expand(len(steps), 3), steps, uncensored, Q).mean(0) for c in candidates])
    assert torch.allclose(candidates[losses.argmin(0)], torch.quantile(steps, Q), atol=0.3)


@given(steps_lists, st.floats(0, 60, width=16))
def test_censored_samples_never_push_down(steps: list[float], predicted: float) -> None:
    """Whatever is predicted, predicting more never costs more; and at or beyond what was seen, nothing is asked."""
    prediction = torch.full((len(steps), 3), predicted, requires_grad=True)
    loss = pinball_loss(prediction, torch.tensor(steps), torch.ones(len(steps), dtype=torch.bool), Q)
    (gradient,) = torch.autograd.grad(loss.sum(), [prediction])
    assert (gradient <= 0).all()
    beyond = predicted >= torch.tensor(steps)
    assert (gradient[beyond] == 0).all()
    assert (loss[beyond] == 0).all()


def test_censored_samples_do_push_up() -> None:
    """'At least this long' is worth something: half of the episodes were cut at 10, all others took 30."""
    steps = torch.tensor([10.0] * 50 + [30.0] * 50)
    censored = steps == 10
    candidates = torch.linspace(5, 35, 61)

    def best(censored: torch.Tensor) -> torch.Tensor:
        losses = torch.stack([pinball_loss(c.expand(100, 3), steps, censored, Q).mean(0) for c in candidates])
        return candidates[losses.argmin(0)]

    assert best(censored).tolist() == pytest.approx([30, 30, 30], abs=0.6)
    assert float(best(torch.zeros_like(censored))[0]) < 11  # trained as if they had ended


def test_states_have_the_steps_that_were_left(offline: OfflineData, normalizer: Normalizer) -> None:
    states = States(offline, normalizer)
    batch = states.at(torch.arange(len(states)))
    assert len(states) == offline.num_transitions
    expected_steps, expected_censored, expected_state, expected_task = [], [], [], []
    for trajectory in offline.trajectories():
        for t in range(len(trajectory)):
            expected_steps.append(len(trajectory) - t)
            expected_censored.append(not trajectory.terminated)
            expected_state.append(normalizer.states(trajectory.states[t]))
            expected_task.append(normalizer.tasks(trajectory.task))
    assert batch.steps.tolist() == expected_steps
    assert batch.censored.tolist() == expected_censored
    assert np.allclose(batch.state.numpy(), np.stack(expected_state), atol=1e-6)
    assert np.allclose(batch.task.numpy(), np.stack(expected_task), atol=1e-6)


def make(normalizer: Normalizer, seed: int = 0) -> LengthEstimator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LengthEstimator(normalizer, EstimatorNetworkConfig(width=32, depth=2), scale=20.0)


def test_quantiles_ascend_whatever_the_weights(normalizer: Normalizer) -> None:
    for seed in range(5):
        predicted = make(normalizer, seed).predict(*(10 * np.random.default_rng(seed).standard_normal((2, 50, 2)).astype(np.float32)))
        assert (predicted > 0).all()
        assert (np.diff(predicted, axis=1) >= 0).all()


def test_quantiles_are_calibrated_on_a_toy(normalizer: Normalizer) -> None:
    """Steps are uniform between 10 and 10 (2 + tanh x): the quantiles are known for every state."""
    estimator = make(normalizer)

    def draw(generator: torch.Generator, count: int = 128) -> StateBatch:
        state = torch.randn(count, 2, generator=generator)
        steps = 10 + 10 * (1 + torch.tanh(state[:, 0])) * torch.rand(count, generator=generator)
        return StateBatch(state, torch.zeros(count, 2), steps, torch.zeros(count, dtype=torch.bool))

    fit(estimator, draw, TrainConfig(gradient_steps=500, learning_rate=5e-3), toys.generator())
    test = draw(toys.generator(9), 4_000)
    with torch.no_grad():
        predicted = estimator(test.state, test.task)
    below = (test.steps[:, None] <= predicted).float().mean(0)
    assert torch.allclose(below, Q, atol=0.05)
    exact = 10 + 10 * (1 + torch.tanh(test.state[:, :1])) * Q
    assert (predicted - exact).abs().mean() < 1.0


def test_it_learns_the_toys_way(trained_estimator: LengthEstimator, held_out: OfflineData) -> None:
    """The median is nearer to the truth than any constant is."""
    states = States(held_out, trained_estimator.normalizer)
    batch = states.at(torch.arange(len(states)))
    with torch.no_grad():
        median = trained_estimator(batch.state, batch.task)[:, 1]
    known = ~batch.censored
    error = (median - batch.steps)[known].abs().mean()
    assert error < 0.75 * (batch.steps[known] - batch.steps[known].median()).abs().mean()


def test_predict_takes_the_tasks_units(trained_estimator: LengthEstimator, normalizer: Normalizer) -> None:
    states, tasks = np.float32([[0.1, 0.2], [0.5, -0.5]]), np.float32([[0.0, 0.0], [0.3, 0.3]])
    with torch.no_grad():
        expected = trained_estimator(torch.from_numpy(normalizer.states(states)), torch.from_numpy(normalizer.tasks(tasks)))
    assert np.array_equal(trained_estimator.predict(states, tasks), expected.numpy())
