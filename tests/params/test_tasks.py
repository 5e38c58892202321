"""Every task that comes with the project: its data can be made here, and belongs to its environment."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atradiff.data.convert import open_dataset, state_keys
from atradiff.data.store import read_store
from atradiff.errors import UserError
from atradiff.params.presets import preset
from atradiff.params.schema import Params
from atradiff.params.tasks import METAWORLD, METAWORLD_ALONE, OTHERS, TASKS
from atradiff.project.layout import Layout
from atradiff.stages import collect, convert

# One of each family; `make test-tasks` takes all of them.
FAMILIES = ("antmaze-umaze", "kitchen-mixed", "adroit-door", "hopper")


def run_stages(params: Params, root: Path) -> Layout:
    layout = Layout(root, params.task.name)
    collect.run(params, layout)
    convert.run(params, layout)
    return layout


def small(params: Params, transitions: int = 130) -> Params:
    """The same with few transitions, in episodes of 40."""
    steps = replace(params.task.collect, transitions=transitions, maximum_steps=40)
    return replace(params, task=replace(params.task, collect=steps))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


@pytest.mark.parametrize("task", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.every_task) for name in TASKS if name not in FAMILIES)])
def test_random_data_of_a_task_is_collected_and_converted(task: str, root: Path) -> None:
    """The whole state is in the store: of an ant, and of no one else, also its place, which is not in `observation`."""
    if task.startswith("metaworld"):
        pytest.importorskip("metaworld")
    params = small(preset(task, "random"))
    layout = run_stages(params, root)
    data = read_store(layout.store)
    assert data.num_transitions == 130
    assert data.states[:, : data.spec.state_dim].std(0).max() > 0
    dataset = open_dataset(params.task.dataset.id)
    assert dataset.storage.metadata["algorithm_name"].endswith("random actions")
    assert state_keys(dataset) == params.task.environment.state_keys
    assert len(state_keys(dataset)) == (2 if task.startswith("antmaze") else 1)
    if task.startswith("antmaze"):
        goal = list(params.task.environment.achieved_goal)
        achieved = np.concatenate([episode.observations["achieved_goal"] for episode in dataset.iterate_episodes()])
        assert np.allclose(data.states[:, goal], achieved)


def test_meta_worlds_tasks_and_ten_more_have_names() -> None:
    assert len(METAWORLD) + len(METAWORLD_ALONE) >= 10
    assert len(OTHERS) == 13


@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_data_has_an_id_and_a_folder_of_its_own(task: str) -> None:
    """So that none overwrites another's models; all else, but for recipes and what remote mazes cannot have, is the same."""
    kinds = [*TASKS[task].qualities, *TASKS[task].remote]
    presets = [preset(task, kind) for kind in kinds]
    assert presets[0] == preset(task)
    assert len({params.task.name for params in presets}) == len({params.task.dataset.id for params in presets}) == len(kinds)
    assert all(params.task.environment == presets[0].task.environment for params in presets)
    for kind, params in zip(kinds, presets, strict=True):
        if kind in TASKS[task].remote:
            assert params.task.dataset.id == kind
        else:
            assert params.task.collect.quality == kind
            assert params.task.dataset.id.startswith("local/")
    if TASKS[task].remote:
        assert preset(task, "remote").task.dataset.id == TASKS[task].remote[0]


def test_data_that_a_task_does_not_have_is_refused_with_what_it_has() -> None:
    with pytest.raises(UserError, match="the task 'adroit-pen' has no data 'expert': choose one of random, remote, D4RL/pen/human-v2"):
        preset("adroit-pen", "expert")
    with pytest.raises(UserError, match=r"'metaworld-push' has no data 'remote': choose one of noisy, random, medium, medium-replay, expert, or"):
        preset("metaworld-push", "remote")


def test_a_task_that_meta_world_does_not_have_is_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told when it is named, not when its data is collected."""
    with monkeypatch.context() as without_extra:
        without_extra.setitem(sys.modules, "metaworld.env_dict", None)
        with pytest.raises(UserError, match="Meta-World is not installed: add it with"):
            preset("metaworld-coffee-pull")
    pytest.importorskip("metaworld")
    assert preset("metaworld-coffee-pull").task.dataset.id == "local/metaworld/coffee-pull-v0"
    with pytest.raises(UserError, match="there is no task 'metaworld-reech', did you mean metaworld-reach: choose one of"):
        preset("metaworld-reech")


def test_a_task_without_a_script_says_how_its_data_can_be_had(root: Path) -> None:
    params = preset("adroit-pen")
    params = replace(params, task=replace(params.task, collect=replace(params.task.collect, quality="expert")))
    with pytest.raises(UserError, match=r"no scripted controller knows AdroitHandPen-v1 .* set task.collect.quality to random, or task.collect.training_steps"):
        collect.run(params, Layout(root, "pen"))
