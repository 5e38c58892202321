"""The sliced Wasserstein distance where it is known, and that it sees a changed actuator."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

import toys
from atradiff.data.store import OfflineData
from atradiff.diffusion.denoiser import Denoiser
from atradiff.online.distance import imagination_distance, sliced_wasserstein
from atradiff.synthesis.actuators import Actuators
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.inverse_dynamics import step_scale
from atradiff.synthesis.length_estimator import LengthEstimator
from atradiff.synthesis.synthesizer import SynthesisConfig, Synthesizer


def normal(count: int, dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dims)).astype(np.float32)


def test_it_is_known_in_one_dimension_and_of_shifts() -> None:
    a = normal(2_000, 1)
    assert sliced_wasserstein(a, a[::-1], toys.generator()) == 0.0
    assert sliced_wasserstein(a, a + 3, toys.generator()) == pytest.approx(3, rel=1e-5)
    assert sliced_wasserstein(2 * a, a, toys.generator()) == pytest.approx(np.sqrt(2 / np.pi), rel=0.05)  # E |2 z - z|
    b = normal(2_000, 3)
    mean_cosine = 0.5  # of a random direction in three dimensions with a given one
    assert sliced_wasserstein(b, b + np.float32([2, 0, 0]), toys.generator()) == pytest.approx(2 * mean_cosine, rel=0.2)


def test_samples_may_differ_in_size() -> None:
    assert sliced_wasserstein(normal(500, 4), normal(5_000, 4, seed=1), toys.generator()) < 0.1


def test_imagination_is_nearer_once_it_knows_the_actuators(
    trained_denoisers: list[Denoiser], trained_estimator: LengthEstimator, offline: OfflineData
) -> None:
    """Real walks in a world where every actuator is reversed: the same states, the opposite actions."""
    one = Synthesizer(DenoiserBank([copy.deepcopy(d) for d in trained_denoisers]), trained_estimator, SynthesisConfig(), 0.1)
    walks = [replace(t, actions=-t.actions) for t in offline.trajectories()]
    before = imagination_distance(one, step_scale(offline), walks, toys.generator())
    one.actuators = Actuators(toys.SPEC, np.float32([-1, -1]))
    after = imagination_distance(one, step_scale(offline), walks, toys.generator())
    assert after < before / 2
