from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

import toys
from atradiff.data.environment import TaskEnvironment
from atradiff.data.mixture import mix
from atradiff.data.store import read_store
from atradiff.errors import UserError
from atradiff.flows.assemble import all_trajectories, build_trainer, params_of_arm
from atradiff.online.importance import ImportanceName
from atradiff.params.schema import Params
from atradiff.project.artifacts import load_split
from atradiff.project.layout import Layout
from projects import online_params


def test_atradiff_has_imagination_and_no_offline_transitions(online_project: Layout) -> None:
    trainer = build_trainer(online_params(), "atradiff", 0, online_project, "cpu")
    assert trainer.imagination is not None
    assert trainer.imagination.synthesizer.bank.horizons == [8, 16]
    assert trainer.replay.offline is None


def test_agent_needs_nothing_from_the_offline_stages(tmp_path_factory: pytest.TempPathFactory) -> None:
    trainer = build_trainer(online_params(), "agent", 0, Layout(tmp_path_factory.mktemp("empty"), "tiny"), "cpu")
    assert trainer.imagination is None
    assert trainer.replay.offline is None


def with_goals(goals: Literal["own", "task"]) -> Params:
    params = online_params()
    return replace(params, control=replace(params.control, offline_goals=goals))


def test_rlpd_learns_half_from_all_offline_transitions_and_imagines_nothing(online_project: Layout) -> None:
    trainer = build_trainer(with_goals("own"), "rlpd", 0, online_project, "cpu")
    assert trainer.imagination is None
    assert trainer.replay.config.offline_ratio == 0.5
    assert trainer.replay.offline is not None
    assert len(trainer.replay.offline) == read_store(online_project.store).num_transitions


def test_rlpd_can_have_its_data_under_the_task_at_hand(online_project: Layout) -> None:
    params = with_goals("task")
    params = replace(params, synthesis=replace(params.synthesis, reward="oracle"))
    trainer = build_trainer(params, "rlpd", 0, online_project, "cpu")
    data, offline = read_store(online_project.store), trainer.replay.offline
    assert offline is not None
    seen = offline.last(len(offline))
    task = torch.from_numpy(trainer.environment.reset(0)[1])
    assert 0 < len(offline) <= data.num_transitions
    assert (seen.observation[:, data.spec.state_dim :] - task).abs().max() < 0.6  # all are the task's goal, up to its noise within a cell
    assert not np.allclose(data.tasks, task.numpy(), atol=0.6)
    with pytest.raises(UserError, match=r"control\.offline_goals is task, but synthesis\.reward generated"):
        build_trainer(replace(params, synthesis=replace(params.synthesis, reward="generated")), "rlpd", 0, online_project, "cpu")


def test_an_agent_sees_observations_by_the_datas_means_and_spreads_where_it_is_to(online_project: Layout) -> None:
    params = online_params()
    params = replace(params, agent=replace(params.agent, standardize=True))
    for arm in ("atradiff", "rlpd"):
        agent = build_trainer(params, arm, 0, online_project, "cpu").agent
        kept, _ = load_split(online_project, params)
        known = agent.seen(torch.from_numpy(np.concatenate([kept.states, kept.tasks[kept.row_episodes()]], axis=1)))
        assert known[:, : kept.spec.state_dim].mean(0).abs().max() < 1e-3
        assert torch.allclose(known[:, : kept.spec.state_dim].std(0), torch.ones(()), atol=1e-2)
    without = build_trainer(params, "agent", 0, online_project, "cpu").agent
    assert without.observation_mean.eq(0).all()
    assert without.observation_scale.eq(1).all(), "it has no data"


def test_of_several_tasks_data_an_agent_learns_from_its_own() -> None:
    mixed = mix([toys.make_offline(5, 0), toys.make_offline(3, 1)], ("toys/a-v0", "toys/b-v0"), tell_apart=True)
    for task_id, number in (((1, 0), 5), ((0, 1), 3)):
        environment = TaskEnvironment(replace(toys.REACH, task_id=task_id))
        learned = all_trajectories([mixed], environment)
        assert [tuple(t.task[-2:]) for t in learned] == [task_id] * number
    assert len(all_trajectories([mixed], TaskEnvironment(toys.REACH))) == 8, "there is one task"
    with pytest.raises(UserError, match="no episode of the task at hand"):
        all_trajectories([mixed.select(np.arange(5))], TaskEnvironment(replace(toys.REACH, task_id=(0, 1))))


def test_no_synthetic_share_is_the_plain_agent_whatever_else_is_set() -> None:
    params = online_params()
    without = replace(params, replay=replace(params.replay, synthetic_ratio=0.0, offline_ratio=0.3))
    assert params_of_arm(without, "atradiff") == params_of_arm(params, "agent")


def test_arms_differ_in_replay_and_adaptation_only() -> None:
    """But that the plain agent, who has no data to imitate, does not imitate, and that the control has a filter of its own."""
    params = online_params()
    assert params.agent.imitation_weight > 0
    for arm in ("atradiff", "agent", "rlpd"):
        theirs = params_of_arm(params, arm)
        own = {"agent": {"imitation_weight": 0.0}, "rlpd": {"imitation_filter": params.control.imitation_filter}, "atradiff": {}}
        assert theirs.agent == replace(params.agent, **own[arm])
        assert replace(theirs, replay=params.replay, agent=params.agent, adaptation=params.adaptation) == params


@pytest.mark.parametrize("importance", ["td_error", "reward", "curiosity", "uniform"])
def test_every_importance_scores_a_real_episode(online_project: Layout, importance: ImportanceName) -> None:
    params = online_params()
    params = replace(params, adaptation=replace(params.adaptation, importance=importance))
    trainer = build_trainer(params, "atradiff", 0, online_project, "cpu")
    assert trainer.imagination is not None
    episode = read_store(online_project.store).trajectory(0)
    score = trainer.imagination.importance(episode, trainer.generators["adapt"])
    assert score == score  # a number, not NaN


def test_data_of_another_environment_is_refused(online_project: Layout) -> None:
    params = online_params()
    environment = replace(params.task.environment, id="Pendulum-v1", kwargs={}, reset_options={}, achieved_goal=())
    with pytest.raises(UserError, match=r"has \(state, action, task\) sizes \(4, 2, 2\), but the environment Pendulum-v1 has \(3, 1, 0\)"):
        build_trainer(replace(params, task=replace(params.task, environment=environment)), "atradiff", 0, online_project, "cpu")
