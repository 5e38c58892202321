"""Trajectories as episodes of a Minari dataset, and back."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.dataset._storages.hdf5_storage import HDF5Storage

import toys
from atradiff.data.convert import convert, open_dataset, state_keys
from atradiff.data.environment import EnvironmentConfig, TaskEnvironment, flatten
from atradiff.data.record import IMAGINED, Unsplit, read_note, unflatten, write_dataset
from atradiff.errors import UserError
from atradiff.trajectory import Trajectory

pytestmark = pytest.mark.filterwarnings("ignore:.* is set to None.*:UserWarning")


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskEnvironment:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return TaskEnvironment(EnvironmentConfig("toys/Kitchen-v0", state_keys=("observation", "achieved_goal"), task_id=(0, 1)))


def trajectory(environment: TaskEnvironment, length: int, terminated: bool) -> Trajectory:
    spec, random = environment.spec, np.random.default_rng(length)
    states, actions = random.normal(size=(length + 1, spec.state_dim)), random.uniform(-1, 1, (length, spec.action_dim))
    task = np.concatenate([random.normal(size=spec.task_dim - 2), [0, 1]])
    rewards = random.normal(size=length)
    return Trajectory(*(part.astype(np.float32) for part in (states, actions, rewards, task)), terminated, not terminated)


def test_what_was_flattened_has_its_form_again() -> None:
    space = spaces.Dict({"b": spaces.Box(0, 9, (2, 2), np.float32), "a": spaces.Dict({"c": spaces.Box(0, 9, (1,), np.float64)})})
    flat = np.random.default_rng(0).uniform(0, 9, (4, 5)).astype(np.float32)
    value = unflatten(space, flat)
    assert value["b"].shape == (4, 2, 2)
    assert value["a"]["c"].dtype == np.float64
    assert np.array_equal(flatten(space, value, (4,)), flat)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_nested_goals_come_back_from_every_format(kitchen: TaskEnvironment, data_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if data_format != "hdf5":
        pytest.importorskip("pyarrow")
    create = minari.create_dataset_from_buffers
    monkeypatch.setattr(minari, "create_dataset_from_buffers", lambda *a, **k: create(*a, **k, data_format=data_format))
    written = [trajectory(kitchen, length, terminated) for length, terminated in ((5, True), (3, False), (1, True))]
    unsplit = Unsplit(kitchen)
    write_dataset("toys/kitchen-v0", [unsplit(t) for t in written], kitchen, "nobody", IMAGINED, {"seed": 3}, unsplit.space)
    dataset = open_dataset("toys/kitchen-v0")
    assert data_format == dataset.storage.FORMAT
    assert read_note(dataset, IMAGINED) == {"seed": 3}
    assert state_keys(dataset) == ("observation", "achieved_goal")
    data = convert(dataset, lambda n: None, state_keys=state_keys(dataset))
    for read, wrote in zip(data.trajectories(), written, strict=True):
        assert np.array_equal(read.states, wrote.states)
        assert np.array_equal(read.actions, wrote.actions)
        assert np.array_equal(read.rewards, wrote.rewards)
        assert np.array_equal(read.task, wrote.task[:-2])
        assert read.terminated == wrote.terminated


def test_an_achieved_goal_is_written_where_the_state_tells_it(reach: TaskEnvironment) -> None:
    goal = Unsplit(reach)
    episode = goal(toys.walk(np.random.default_rng(0), 5))
    assert list(goal.space.spaces) == ["achieved_goal", "desired_goal", "observation"]  # type: ignore[attr-defined]
    assert np.array_equal(episode.observations["achieved_goal"], episode.observations["observation"])
    blind = Unsplit(TaskEnvironment(replace(toys.REACH, achieved_goal=())))
    assert list(blind.space.spaces) == ["desired_goal", "observation"]  # type: ignore[attr-defined]


def test_an_id_that_minari_does_not_take_is_refused(reach: TaskEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    episodes = [Unsplit(reach)(toys.walk(np.random.default_rng(0), 5))]
    with pytest.raises(UserError, match="'no version' is no id of a Minari dataset"):
        write_dataset("no version", episodes, reach, "nobody", IMAGINED, {})


def test_a_kill_leaves_no_half_dataset(kitchen: TaskEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minari would make the folder first, from which it tells that there is a dataset, and fill it then."""
    unsplit = Unsplit(kitchen)
    episodes = [unsplit(trajectory(kitchen, 4, True))]

    def write() -> None:
        write_dataset("toys/kitchen-v0", episodes, kitchen, "nobody", IMAGINED, {}, unsplit.space)

    process = os.fork()
    if process == 0:
        monkeypatch.setattr(HDF5Storage, "update_episodes", lambda *_: os._exit(9))
        write()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    assert minari.list_local_datasets() == {}
    write()
    assert minari.load_dataset("toys/kitchen-v0").total_steps == 4
    assert not (tmp_path / ".writing").exists()
