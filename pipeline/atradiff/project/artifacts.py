"""The offline stages' results, read back: the split data and the synthesizer."""

from __future__ import annotations

import numpy as np
import torch

from atradiff.data.environment import Oracle, TaskEnvironment
from atradiff.data.hindsight import Hindsight, arrival_radius
from atradiff.data.relabel import RewardArm
from atradiff.data.store import OfflineData, read_store
from atradiff.diffusion.checkpoint import load_denoiser
from atradiff.errors import UserError
from atradiff.online.starts import OfflineStarts
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.checkpoint import load_length_estimator, load_reward_model
from atradiff.synthesis.prune import loop_epsilon
from atradiff.synthesis.synthesizer import Synthesizer, goal_rewards, learned_rewards, oracle_rewards
from atradiff.synthesis.waypoints import Waypoints

SPLIT_SEED = 0


def set_up_torch() -> None:
    """Keep torch on one core: an agent's networks are small, and waiting for a second core costs more than it gives. And take numbers too small
    for float32's own form for 0: the moments that Adam keeps of units without a gradient become so in some 700 steps, and make the step three times as slow.

    To be called before torch has computed anything: only threads that begin later do the same.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_split(layout: Layout, params: Params) -> tuple[OfflineData, OfflineData]:
    """The offline data as (kept for training, held out), always split the same way."""
    return read_store(layout.store).split(params.task.dataset.held_out_share, np.random.default_rng(SPLIT_SEED))


def with_hindsight(kept: OfflineData, params: Params) -> tuple[OfflineData, Hindsight]:
    """What models learn from, the kept episodes with hindsight's pieces of them; and the hindsight."""
    config = params.task.hindsight
    hindsight = Hindsight(kept, params.task.environment.achieved_goal, config)
    return hindsight(kept, np.random.default_rng(config.seed)), hindsight


def offline_starts(params: Params, kept: OfflineData, environment: TaskEnvironment) -> OfflineStarts:
    """Where imagination begins beforehand, but for resets."""
    return OfflineStarts(kept, params.online.warm_start_offline_share, params.online.warm_start_goals, environment.identity)


def load_synthesizer(
    layout: Layout, params: Params, kept: OfflineData, device: str, environment: TaskEnvironment | None = None
) -> Synthesizer:
    """All denoisers of the task on `device`, with the length estimator and the reward arm, which are small and stay on the CPU.

    The `kept` episodes serve waypoints and the goal arm, `environment` the oracle arm only.
    """
    bank = DenoiserBank([load_denoiser(layout.denoiser(horizon).model, device) for horizon in params.denoiser.horizons])
    estimator, distances = load_length_estimator(layout.length_estimator.model)
    epsilon = loop_epsilon(distances, params.synthesis.prune.epsilon_quantile)
    return Synthesizer(
        bank,
        estimator,
        params.synthesis,
        epsilon,
        reward_arm(layout, params, kept, environment),
        _waypoints(params, kept),
        params.task.environment.max_episode_steps,
        ends=bool(kept.episode_terminated.any()) or params.task.hindsight.cover > 0,
    )


def _waypoints(params: Params, kept: OfflineData) -> Waypoints | None:
    config, goal = params.synthesis.waypoints, params.task.environment.achieved_goal
    if config.reach == 0:
        return None
    return Waypoints(kept, goal, arrival_radius(kept, goal), config)


def reward_arm(layout: Layout, params: Params, kept: OfflineData, environment: TaskEnvironment | None) -> RewardArm | None:
    """Who tells the rewards of what nobody lived through; None where the denoisers do."""
    match params.synthesis.reward:
        case "generated":
            return None
        case "goal":
            goal = params.task.environment.achieved_goal
            if not kept.spec.reward_values or not kept.episode_terminated.any() or len(goal) != kept.spec.task_dim:
                raise UserError(
                    "synthesis.reward is goal, which needs sparse rewards, an offline episode that succeeded, and the state entries that a "
                    "goal is compared with in task.environment.achieved_goal: use generated or learned"
                )
            return goal_rewards(goal, arrival_radius(kept, goal), kept.spec.reward_values[-1], kept.spec.reward_values[0])
        case "learned":
            return learned_rewards(load_reward_model(layout.reward_model.model))
        case "oracle":
            if environment is None:
                raise UserError("synthesis.reward is oracle, which needs the environment, and there is none here: use generated or learned")
            return oracle_rewards(Oracle(environment))
