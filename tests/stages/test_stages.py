from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import minari
import numpy as np
import pytest

from atradiff.data.collect import recipe
from atradiff.data.environment import TaskEnvironment
from atradiff.data.hindsight import HindsightConfig, arrival_radius
from atradiff.data.store import read_store, stack_trajectories, write_store
from atradiff.diffusion.checkpoint import load_checkpoint, load_denoiser
from atradiff.errors import UserError
from atradiff.params.schema import Params
from atradiff.project.artifacts import load_split, load_synthesizer, with_hindsight
from atradiff.project.layout import Layout
from atradiff.project.staleness import require_offline_stages
from atradiff.stages import collect, convert, train_denoiser, train_length_estimator
from atradiff.synthesis.synthesizer import Synthesizer
from atradiff.synthesis.waypoints import WaypointConfig
from projects import DATASET
from toys import SPEC, generator, line_trajectory


def copy_of(project: Layout, folder: Path) -> Layout:
    shutil.copytree(project.root, folder / "copy", ignore=shutil.ignore_patterns("minari"))
    return Layout(folder / "copy", project.task)


def test_collect_records_what_the_dataset_is(project: Layout, params: Params) -> None:
    record = json.loads(project.dataset.read_text())
    dataset = minari.load_dataset(DATASET)
    assert record["id"] == DATASET
    assert record["transitions"] == dataset.total_steps == params.task.collect.transitions
    assert record["episodes"] == dataset.total_episodes
    assert record["recipe"]["seed"] == params.task.collect.seed
    assert len(record["sha256"]) == 64


def test_collect_leaves_a_dataset_that_is_there(project: Layout, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("collected again")

    monkeypatch.setattr(collect, "collect", forbidden)
    layout = Layout(tmp_path, "again")
    collect.run(params, layout)
    assert layout.dataset.read_text() == project.dataset.read_text()


def test_collect_refuses_a_dataset_of_another_recipe(project: Layout, params: Params, tmp_path: Path) -> None:
    other = replace(params, task=replace(params.task, collect=replace(params.task.collect, seed=7)))
    with pytest.raises(UserError, match=rf"other settings than params.yaml says \(seed\): delete it with `minari delete {DATASET}`"):
        collect.run(other, Layout(tmp_path, "other"))


def test_collect_names_a_limit_that_only_one_of_both_has(
    project: Layout, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = replace(params.task, collect=replace(params.task.collect, maximum_steps=9))
    with pytest.raises(UserError, match=r"with other settings than params.yaml says \(maximum_steps\)"):
        collect.run(replace(params, task=limited), Layout(tmp_path, "other"))
    monkeypatch.setattr(collect, "read_recipe", lambda dataset: recipe(limited.environment, limited.collect))
    with pytest.raises(UserError, match=r"with other settings than params.yaml says \(maximum_steps\)"):
        collect.run(params, Layout(tmp_path, "other"))


def test_collect_says_what_to_do_where_nothing_can_be_collected(
    project: Layout, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(dataset_id: str) -> None:
        raise ConnectionError(dataset_id)

    def of(dataset_id: str) -> Params:
        return replace(params, task=replace(params.task, dataset=replace(params.task.dataset, id=dataset_id)))

    monkeypatch.setattr(minari, "download_dataset", unreachable)
    with pytest.raises(UserError, match="could not be downloaded"):
        collect.run(of("D4RL/pointmaze/umaze-v2"), Layout(tmp_path, "remote"))
    pendulum = of("local/pendulum-v0")
    environment = replace(params.task.environment, id="Pendulum-v1", kwargs={}, reset_options={})
    pendulum = replace(pendulum, task=replace(pendulum.task, environment=environment))
    with pytest.raises(UserError, match="no scripted controller knows Pendulum-v1"):
        collect.run(pendulum, Layout(tmp_path, "pendulum"))


def test_convert_refuses_data_of_another_environment(project: Layout, params: Params, tmp_path: Path) -> None:
    environment = replace(params.task.environment, id="Pendulum-v1", kwargs={}, reset_options={})
    other = replace(params, task=replace(params.task, environment=environment))
    with pytest.raises(UserError, match="but the environment Pendulum-v1 has"):
        convert.run(other, Layout(tmp_path, "other"))
    assert not (tmp_path / "data").exists()


def test_the_split_is_always_the_same_and_loses_nothing(project: Layout, params: Params) -> None:
    kept, held_out = load_split(project, params)
    again, _ = load_split(project, params)
    assert np.array_equal(kept.states, again.states)
    assert kept.num_transitions + held_out.num_transitions == read_store(project.store).num_transitions


def test_training_twice_gives_the_same_bytes(project: Layout, params: Params, tmp_path: Path) -> None:
    layout = copy_of(project, tmp_path)
    train_denoiser.run(params, layout, 8)
    train_length_estimator.run(params, layout)
    for ours, theirs in ((layout.denoiser(8), project.denoiser(8)), (layout.length_estimator, project.length_estimator)):
        for path in ("model", "metrics", "loss_curve"):
            assert getattr(ours, path).read_bytes() == getattr(theirs, path).read_bytes(), path


def test_a_model_says_where_it_comes_from(project: Layout) -> None:
    record = json.loads(project.dataset.read_text())
    for path, kind in ((project.denoiser(8).model, "denoiser"), (project.length_estimator.model, "length estimator")):
        assert load_checkpoint(path, kind)["provenance"] == {"dataset": record["id"], "sha256": record["sha256"], "seed": 0}
    assert load_denoiser(project.denoiser(16).model).horizon == 16


def test_metrics_are_finite_numbers(project: Layout) -> None:
    for folder in (project.denoiser(8), project.denoiser(16), project.length_estimator, project.reward_model):
        metrics = json.loads(folder.metrics.read_text())
        assert {"loss", "held_out_loss"} <= set(metrics)
        assert all(np.isfinite(value) for value in metrics.values())
        assert "<svg" in folder.loss_curve.read_text()


def test_synthesis_is_measured_and_drawn(project: Layout) -> None:
    metrics = json.loads(project.synthesis_metrics.read_text())
    for name in ("one_step_error/8", "one_step_error/16", "one_step_error/real_step", "support/in_wall_share", "length/mae"):
        assert np.isfinite(metrics[name]), name
    assert "<svg" in project.synthesis_picture.read_text()


def loaded(layout: Layout, params: Params, environment: TaskEnvironment | None = None) -> Synthesizer:
    return load_synthesizer(layout, params, load_split(layout, params)[0], "cpu", environment)


@pytest.mark.parametrize("reward", ["generated", "goal", "learned", "oracle"])
def test_the_synthesizer_is_put_together_from_the_stages(project: Layout, params: Params, reward: str) -> None:
    params = replace(params, synthesis=replace(params.synthesis, reward=reward))
    environment = TaskEnvironment(params.task.environment)
    synthesizer = loaded(project, params, environment)
    state, task = environment.reset(0)
    (imagined,) = synthesizer(state[None], task[None], generator())
    assert synthesizer.bank.horizons == [8, 16]
    assert (synthesizer.reward_arm is None) == (reward == "generated")
    assert np.array_equal(imagined.trajectory.states[0], state)
    environment.close()


def test_data_without_an_end_has_imagination_know_of_none_but_from_hindsight(project: Layout, params: Params) -> None:
    kept, _ = load_split(project, params)
    cut = stack_trajectories([replace(t, terminated=False, truncated=True) for t in kept.trajectories()], kept.spec)
    params = replace(params, synthesis=replace(params.synthesis, reward="generated"))
    again = replace(params, task=replace(params.task, hindsight=replace(params.task.hindsight, cover=1.0)))
    told = [load_synthesizer(project, which, data, "cpu").ends for which, data in ((params, kept), (params, cut), (again, cut))]
    assert told == [True, False, True]


def test_the_goal_arm_succeeds_where_offline_episodes_did(project: Layout, params: Params) -> None:
    """At their ends, to the farthest of them, and with their rewards."""
    kept, _ = load_split(project, params)
    arm = loaded(project, replace(params, synthesis=replace(params.synthesis, reward="goal"))).reward_arm
    assert arm is not None
    for trajectory in (t for t in kept.trajectories() if t.terminated):
        window = trajectory.states[:-1], trajectory.actions, trajectory.states[1:], trajectory.task
        (rewards,), (ended,) = arm(*(part[None] for part in window))
        assert (rewards[-1], ended[-1]) == (1.0, True)
        assert set(rewards.tolist()) <= {0.0, 1.0}
    states, task = np.zeros((2, 4), np.float32), np.zeros(2, np.float32)
    states[:, 1] = arrival_radius(kept, (0, 1)) + np.float32([-0.01, 0.01])
    assert arm(states[None], states[None, :, :2], states[None], task[None])[1].tolist() == [[True, False]]


def test_the_goal_arm_needs_goals_rewards_and_successes(project: Layout, params: Params, tmp_path: Path) -> None:
    params = replace(params, synthesis=replace(params.synthesis, reward="goal"))
    nowhere = replace(params, task=replace(params.task, environment=replace(params.task.environment, achieved_goal=())))
    with pytest.raises(UserError, match=r"synthesis.reward is goal, which needs .*: use generated or learned"):
        loaded(project, nowhere)
    layout, data = copy_of(project, tmp_path), read_store(project.store)
    dense = replace(data, spec=replace(data.spec, reward_values=()))
    hopeless = replace(data, episode_terminated=np.zeros(data.num_episodes, dtype=bool))
    for other in (dense, hopeless):
        write_store(layout.store, other, {})
        with pytest.raises(UserError, match=r"synthesis.reward is goal, which needs"):
            loaded(layout, params)


def test_models_learn_from_the_kept_episodes_and_their_pieces(project: Layout, params: Params) -> None:
    """The held-out ones stay as they are, and the same pieces are cut every time."""
    kept, held_out = load_split(project, params)
    params = replace(params, task=replace(params.task, hindsight=HindsightConfig(cover=3, maximum_steps=40)))
    (learned_from, hindsight), (again, _) = with_hindsight(kept, params), with_hindsight(kept, params)
    assert np.array_equal(learned_from.states[: len(kept.states)], kept.states)
    assert 4 * kept.num_transitions <= learned_from.num_transitions < 4 * kept.num_transitions + 40
    assert np.array_equal(learned_from.states, again.states)
    assert np.array_equal(load_split(project, params)[1].states, held_out.states)
    assert hindsight.radius == arrival_radius(kept, (0, 1))


def test_waypoints_come_from_the_kept_episodes(project: Layout, params: Params) -> None:
    """With a reach; and from all of an episode there is a way to where it ended."""
    assert loaded(project, params).waypoints is None
    config = replace(params.synthesis, waypoints=WaypointConfig(reach=10, landmarks=50))
    waypoints = loaded(project, replace(params, synthesis=config)).waypoints
    assert waypoints is not None
    kept, _ = load_split(project, params)
    assert waypoints.radius == arrival_radius(kept, (0, 1))
    assert len(waypoints.landmarks) == 50
    for walk in kept.trajectories():
        ends = np.repeat(walk.states[-1:, :2], len(walk), axis=0)
        assert np.isfinite(waypoints.steps(walk.states[:-1], ends)).all()


def test_the_oracle_needs_an_environment(project: Layout, params: Params) -> None:
    with pytest.raises(UserError, match="needs the environment"):
        loaded(project, replace(params, synthesis=replace(params.synthesis, reward="oracle")))


def test_a_loss_that_is_not_finite_is_told(project: Layout, params: Params, tmp_path: Path) -> None:
    layout = copy_of(project, tmp_path)
    train = replace(params.length_estimator.train, learning_rate=1e30, gradient_clip=1e30, gradient_steps=50)
    with pytest.raises(UserError, match=r"length estimator: .*not finite.*length_estimator.train.learning_rate"):
        train_length_estimator.run(replace(params, length_estimator=replace(params.length_estimator, train=train)), layout)


def test_a_horizon_that_no_episode_fills_is_refused() -> None:
    truncated = stack_trajectories([line_trajectory(5, terminated=False), line_trajectory(7, terminated=False)], SPEC)
    train_denoiser.require_rows(truncated, 8)
    with pytest.raises(UserError, match=r"the longest has 7 transitions; remove 9 from denoiser.horizons"):
        train_denoiser.require_rows(truncated, 9)
    train_denoiser.require_rows(stack_trajectories([line_trajectory(5, terminated=True)], SPEC), 64)


def test_missing_stages_are_named_without_dvc(project: Layout, params: Params, tmp_path: Path) -> None:
    layout = copy_of(project, tmp_path)
    require_offline_stages(layout.root, params)
    layout.denoiser(16).model.unlink()
    layout.reward_model.model.unlink()
    with pytest.raises(UserError, match=r"\(train_denoiser@16 missing\): run `dvc repro`"):
        require_offline_stages(layout.root, params)
    with pytest.raises(UserError, match=r"\(train_denoiser@16, train_reward_model missing\)"):
        require_offline_stages(layout.root, replace(params, synthesis=replace(params.synthesis, reward="learned")))
    require_offline_stages(layout.root, params, models=False)


def test_offline_parameters_cannot_be_set_for_one_run(project: Layout, params: Params) -> None:
    estimator = replace(params.length_estimator, train=replace(params.length_estimator.train, seed=1))
    with pytest.raises(UserError, match="length_estimator cannot be set for one run"):
        require_offline_stages(project.root, replace(params, length_estimator=estimator))
    hindsight = replace(params, task=replace(params.task, hindsight=HindsightConfig(cover=3)))
    with pytest.raises(UserError, match=r"task.hindsight cannot be set for one run"):
        require_offline_stages(project.root, hindsight)
    require_offline_stages(project.root, hindsight, models=False)
    require_offline_stages(project.root, replace(params, agent=replace(params.agent, width=8)))
    require_offline_stages(project.root, replace(params, denoiser=replace(params.denoiser, horizons=[8])))


