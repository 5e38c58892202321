"""From parameters and the offline stages' results to a trainer: what each arm is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from atradiff.agents.actor_critic import ActorCritic, AgentConfig
from atradiff.agents.evaluate import Evaluator
from atradiff.agents.make import make_agent
from atradiff.agents.take_over import take_over
from atradiff.data.environment import TaskEnvironment
from atradiff.data.normalizer import Normalizer
from atradiff.data.relabel import relabel
from atradiff.data.store import OfflineData
from atradiff.diffusion.checkpoint import load_checkpoint
from atradiff.errors import UserError
from atradiff.flows.run_folder import AGENT_FILE, RunFolder
from atradiff.online.adaptation import Adapter
from atradiff.online.importance import (
    Importance,
    PickedSet,
    curiosity_importance,
    reward_importance,
    td_error_importance,
    uniform_importance,
)
from atradiff.online.seeds import make_generator
from atradiff.online.starts import beforehand
from atradiff.online.trainer import Imagination, Trainer
from atradiff.params.schema import Params
from atradiff.project.artifacts import load_split, load_synthesizer, offline_starts, reward_arm, with_hindsight
from atradiff.project.layout import Layout
from atradiff.replay.buffer import Buffer
from atradiff.replay.mixed import MixedReplay
from atradiff.synthesis.synthesizer import Synthesizer
from atradiff.trajectory import Source, Trajectory

Arm = Literal["atradiff", "agent", "rlpd"]
ARMS: tuple[Arm, ...] = get_args(Arm)
EVALUATION_SEED = 0  # the same episodes for every run


def params_of_arm(params: Params, arm: Arm) -> Params:
    """The parameters that an arm really runs with.

    `agent` uses neither imagination nor offline data, and so has no warm start and nothing to imitate or to adapt; `atradiff` with a
    synthetic_ratio of 0 is the same. `rlpd` is the same agent with half of every batch from the offline data, which it imitates; `params.control`
    says how.
    """
    agent = params.agent
    if arm == "rlpd":
        replay = replace(params.replay, synthetic_ratio=0.0, offline_ratio=params.control.offline_ratio)
        agent = replace(agent, imitation_filter=params.control.imitation_filter)
    elif arm == "agent" or params.replay.synthetic_ratio == 0:
        replay = replace(params.replay, synthetic_ratio=0.0, offline_ratio=0.0)
        agent = replace(agent, imitation_weight=0.0)
    else:
        return params
    return replace(params, replay=replay, agent=agent, adaptation=replace(params.adaptation, adapt_every=0))


def build_trainer(params: Params, arm: Arm, seed: int, layout: Layout, device: str) -> Trainer:
    """The trainer of one run, before its first step."""
    params = params_of_arm(params, arm)
    environments = [TaskEnvironment(params.task.environment, shift=params.online.shift) for _ in range(params.online.num_envs)]
    environment = environments[0]
    evaluator = Evaluator(params.task.environment, params.online.evaluation_episodes, EVALUATION_SEED, params.online.shift)
    agent = make_agent(environment.spec, params.agent, make_generator(seed, "agent"), device)
    replay, imagines = params.replay, params.replay.synthetic_ratio > 0
    split = load_split(layout, params) if imagines or replay.offline_ratio > 0 else None
    if split is not None:
        fit_to_data(agent, split, params, environment)
    offline = None
    if split is not None and replay.offline_ratio > 0:
        trajectories = all_trajectories(split, environment)
        if arm == "rlpd" and params.control.offline_goals == "task":
            trajectories = _under_the_task(trajectories, split[0], params, seed, layout, environment)
        offline = offline_buffer(trajectories, params, environment, device)
    mixed = MixedReplay(
        replay,
        online=make_buffer(replay.online_capacity, params, environment, device, Source.ONLINE),
        synthetic=make_buffer(replay.synthetic_capacity if imagines else replay.n_step + 1, params, environment, device, Source.IMAGINED),
        offline=offline,
    )
    imagination = None
    if split is not None and imagines:
        kept, held_out = split
        synthesizer = load_synthesizer(layout, params, kept, device, environment)
        learned_from, hindsight = with_hindsight(kept, params)
        imagination = Imagination(
            synthesizer=synthesizer,
            adapter=Adapter(synthesizer, learned_from, held_out, hindsight, params.adaptation, seed),
            picked=PickedSet(params.adaptation.capacity, params.adaptation.random_drop),
            importance=_importance(params, agent, synthesizer),
            starts=offline_starts(params, kept, environment),
        )
    return Trainer(environments, evaluator, agent, mixed, imagination, params.online, seed)


def take_over_from(agent: ActorCritic, folder: RunFolder) -> None:
    """Let the agent go on from what the offline run has learned."""
    state: dict[str, Any] = load_checkpoint(folder.path / AGENT_FILE, "agent")["agent"]
    learned: AgentConfig = folder.params().agent
    take_over(agent, learned, state, str(folder.path))


def make_buffer(capacity: int, params: Params, environment: TaskEnvironment, device: str, source: Source) -> Buffer:
    spec = environment.spec
    return Buffer(capacity, spec.observation_dim, spec.action_dim, params.replay.n_step, params.agent.discount, device, source)


def fit_to_data(agent: ActorCritic, split: Sequence[OfflineData], params: Params, environment: TaskEnvironment) -> None:
    """Refuse offline data that is not the environment's; let the agent see observations standardised by it, if it is to."""
    kept = split[0]
    environment.require_fit(kept.spec, f"the offline data {params.task.dataset.id!r}")
    if params.agent.standardize:
        known, dims = Normalizer.of(kept), kept.spec.state_dim
        agent.standardize(np.append(known.row_mean[:dims], known.task_mean), np.append(known.row_scale[:dims], known.task_scale))


def all_trajectories(split: Sequence[OfflineData], environment: TaskEnvironment) -> list[Trajectory]:
    """What an agent learns from: both parts, as holding some back serves the models' measurements; of several tasks, the environment's own."""
    own = [part.trajectory(int(episode)) for part in split for episode in np.flatnonzero(part.of_task(environment.identity))]
    if not own:
        raise UserError("the offline data has no episode of the task at hand to learn from: see task.environment, and collect or convert data of that task")
    return own


def offline_buffer(trajectories: Sequence[Trajectory], params: Params, environment: TaskEnvironment, device: str) -> Buffer:
    """Room for all of the trajectories, with them in it."""
    transitions = sum(len(trajectory) for trajectory in trajectories)
    buffer = make_buffer(max(transitions, params.replay.n_step + 1), params, environment, device, Source.OFFLINE)
    for trajectory in trajectories:
        buffer.add_trajectory(trajectory)
    return buffer


def _under_the_task(
    trajectories: Sequence[Trajectory], kept: OfflineData, params: Params, seed: int, layout: Layout, environment: TaskEnvironment
) -> list[Trajectory]:
    """The trajectories relabelled: under the tasks of as many resets as imagination's warm start has trajectories, over and over."""
    arm = reward_arm(layout, params, kept, environment)
    if arm is None:
        raise UserError(
            "control.offline_goals is task, but synthesis.reward generated tells no rewards of real states: set the first to own, or the second to goal"
        )
    _, tasks = beforehand(environment, seed, params.online.warm_start_trajectories)
    return [piece for i, trajectory in enumerate(trajectories) for piece in relabel(trajectory, tasks[i % len(tasks)], arm)]


def _importance(params: Params, agent: ActorCritic, synthesizer: Synthesizer) -> Importance:
    match params.adaptation.importance:
        case "td_error":
            return td_error_importance(agent, params.replay.n_step, params.agent.discount)
        case "reward":
            return reward_importance()
        case "curiosity":
            bank = synthesizer.bank
            return curiosity_importance(bank.original[bank.horizons[-1]], synthesizer.estimator.normalizer)
        case "uniform":
            return uniform_importance()
