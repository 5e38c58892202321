"""The length estimator and the reward model at rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atradiff.data.normalizer import Normalizer
from atradiff.errors import UserError
from atradiff.synthesis.checkpoint import load_length_estimator, load_reward_model, save_length_estimator, save_reward_model
from atradiff.synthesis.length_estimator import EstimatorNetworkConfig, LengthEstimator
from atradiff.synthesis.reward_model import RewardModel

STATES, TASKS = np.float32([[0.1, 0.2], [0.5, -0.5]]), np.float32([[0.0, 0.0], [0.3, 0.3]])


def test_length_estimator_comes_back_as_it_was(tmp_path: Path, trained_estimator: LengthEstimator) -> None:
    distances = [0.0, 0.1, 0.2]
    save_length_estimator(tmp_path / "model.pt", trained_estimator, distances, {"seed": 1})
    again, found = load_length_estimator(tmp_path / "model.pt")
    assert found == distances
    assert np.array_equal(again.predict(STATES, TASKS), trained_estimator.predict(STATES, TASKS))
    assert torch.load(tmp_path / "model.pt", weights_only=True)["provenance"] == {"seed": 1}


def test_reward_model_comes_back_as_it_was(tmp_path: Path, normalizer: Normalizer) -> None:
    model = RewardModel(normalizer, EstimatorNetworkConfig(width=8, depth=1)).eval()
    save_reward_model(tmp_path / "model.pt", model, {})
    again = load_reward_model(tmp_path / "model.pt")
    inputs = torch.randn(4, 8)
    assert torch.equal(again.net(inputs), model.net(inputs))


def test_one_is_not_the_other(tmp_path: Path, trained_estimator: LengthEstimator) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(UserError, match="no reward model at"):
        load_reward_model(path)
    save_length_estimator(path, trained_estimator, [0.0], {})
    with pytest.raises(UserError, match="'length estimator' of format 1, expected 'reward model'"):
        load_reward_model(path)
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(UserError, match=r"the length estimator .* cut short or damaged"):
        load_length_estimator(path)
