"""The offline stages' results, read back: the split data and the synthesizer."""

from __future__ import annotations

import numpy as np
import torch

from atradiff.data.environment import Oracle, TaskEnvironment
from atradiff.data.store import OfflineData, read_store
from atradiff.diffusion.checkpoint import load_denoiser
from atradiff.errors import UserError
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.checkpoint import load_length_estimator, load_reward_model
from atradiff.synthesis.prune import loop_epsilon
from atradiff.synthesis.synthesizer import RewardArm, Synthesizer, learned_rewards, oracle_rewards

SPLIT_SEED = 0


def use_one_thread() -> None:
    """Keep torch on one core: an agent's networks are small, and waiting for a second core costs more than it gives."""
    torch.set_num_threads(1)


def device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_split(layout: Layout, params: Params) -> tuple[OfflineData, OfflineData]:
    """The offline data as (kept for training, held out), always split the same way."""
    return read_store(layout.store).split(params.task.dataset.held_out_share, np.random.default_rng(SPLIT_SEED))


def load_synthesizer(layout: Layout, params: Params, device: str, environment: TaskEnvironment | None = None) -> Synthesizer:
    """All denoisers of the task on `device`, with the length estimator and the reward arm, which are small and stay on the CPU.

    `environment` serves the oracle arm only.
    """
    bank = DenoiserBank([load_denoiser(layout.denoiser(horizon).model, device) for horizon in params.denoiser.horizons])
    estimator, distances = load_length_estimator(layout.length_estimator.model)
    epsilon = loop_epsilon(distances, params.synthesis.prune.epsilon_quantile)
    return Synthesizer(bank, estimator, params.synthesis, epsilon, _reward_arm(layout, params, environment))


def _reward_arm(layout: Layout, params: Params, environment: TaskEnvironment | None) -> RewardArm | None:
    match params.synthesis.reward:
        case "generated":
            return None
        case "learned":
            return learned_rewards(load_reward_model(layout.reward_model.model))
        case "oracle":
            if environment is None:
                raise UserError("synthesis.reward is oracle, which needs the environment, and there is none here: use generated or learned")
            return oracle_rewards(Oracle(environment))
