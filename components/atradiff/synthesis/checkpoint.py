"""The length estimator and the reward model at rest, in the format of the denoisers' checkpoints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from atradiff.diffusion.checkpoint import load_checkpoint, load_normalizer, normalizer_state, save_checkpoint
from atradiff.synthesis.length_estimator import EstimatorNetworkConfig, LengthEstimator
from atradiff.synthesis.reward_model import RewardModel


def save_length_estimator(path: Path, estimator: LengthEstimator, distances: list[float], provenance: dict[str, Any]) -> None:
    """The estimator, with the offline one-step distances at the quantiles 0, 0.01 ... 1 (the pruner's epsilon is one of them)."""
    content = {
        "network": asdict(estimator.config),
        "scale": estimator.scale,
        "one_step_distances": distances,
        "normalizer": normalizer_state(estimator.normalizer),
        "weights": estimator.state_dict(),
        "provenance": provenance,
    }
    save_checkpoint(path, "length estimator", content)


def load_length_estimator(path: Path, device: torch.device | str = "cpu") -> tuple[LengthEstimator, list[float]]:
    """The estimator in `path` and the one-step distances beside it."""
    content = load_checkpoint(path, "length estimator")
    estimator = LengthEstimator(load_normalizer(content["normalizer"]), EstimatorNetworkConfig(**content["network"]), float(content["scale"]))
    estimator.load_state_dict(content["weights"])
    return estimator.to(device).eval(), list(content["one_step_distances"])


def save_reward_model(path: Path, model: RewardModel, provenance: dict[str, Any]) -> None:
    """The reward model of the `learned` arm."""
    content = {
        "network": asdict(model.config),
        "normalizer": normalizer_state(model.normalizer),
        "weights": model.state_dict(),
        "provenance": provenance,
    }
    save_checkpoint(path, "reward model", content)


def load_reward_model(path: Path, device: torch.device | str = "cpu") -> RewardModel:
    """The reward model in `path`."""
    content = load_checkpoint(path, "reward model")
    model = RewardModel(load_normalizer(content["normalizer"]), EstimatorNetworkConfig(**content["network"]))
    model.load_state_dict(content["weights"])
    return model.to(device).eval()
