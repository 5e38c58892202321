"""collect: the offline datasets are on this machine afterwards, collected, downloaded, or there already."""

from __future__ import annotations

from typing import Any

import minari

from atradiff.data.collect import Controller, collect, collecting_environment, read_recipe, recipe
from atradiff.data.convert import dataset_fingerprint, download_dataset, open_dataset
from atradiff.data.environment import TaskEnvironment
from atradiff.data.skill import scripted_controller
from atradiff.errors import UserError
from atradiff.params.schema import Params, TaskParams
from atradiff.project.layout import Layout
from atradiff.stages.progress import track
from atradiff.stages.training import write_json

LOCAL = "local/"


def run(params: Params, layout: Layout) -> None:
    """Make sure of the datasets and record what they are in dataset.json."""
    task = params.task
    first = _make_sure(task, task.dataset.id)
    wanted, found = recipe(task.environment, task.collect), first["recipe"]
    if task.dataset.id.startswith(LOCAL) and found is not None and found != wanted:
        different = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
        raise UserError(
            f"the dataset {task.dataset.id!r} was collected with other settings than params.yaml says ({', '.join(different)}): "
            f"delete it with `minari delete {task.dataset.id}`, or choose another task.dataset.id"
        )
    further = [_make_sure(task, dataset_id) for dataset_id in task.dataset.mixed_with]
    write_json(layout.dataset, {**first, "mixed_with": further} if further else first)


def _make_sure(task: TaskParams, dataset_id: str) -> dict[str, Any]:
    """Have one dataset on this machine; returns what it is."""
    if dataset_id not in minari.list_local_datasets():
        if not dataset_id.startswith(LOCAL):
            download_dataset(dataset_id)
        elif dataset_id == task.dataset.id:
            _collect(task)
        else:
            raise UserError(f"{dataset_id!r} in task.dataset.mixed_with is not on this machine: collect it as a task of its own first")
    dataset = open_dataset(dataset_id)
    return {
        "id": dataset_id,
        "sha256": dataset_fingerprint(dataset),
        "episodes": int(dataset.total_episodes),
        "transitions": int(dataset.total_steps),
        "recipe": read_recipe(dataset),
    }


def _collect(task: TaskParams) -> None:
    environment = collecting_environment(task.environment)
    controller = _controller(task, environment)
    with track(f"collect {task.dataset.id}", task.collect.transitions) as advance:
        collect(task.dataset.id, environment, controller, task.collect, advance)
    environment.close()


def _controller(task: TaskParams, environment: TaskEnvironment) -> Controller:
    """Who collects: a script, or an agent that teaches itself first."""
    scripted = scripted_controller(environment, task.collect)
    if scripted is not None:
        return scripted
    if task.collect.training_steps is None:
        raise UserError(
            f"dataset {task.dataset.id} is not there, and no scripted controller knows {task.environment.id} to collect it with: set task.collect.quality "
            "to random, or task.collect.training_steps to let an agent learn it first, or name a dataset that exists in task.dataset.id"
        )
    from atradiff.agents.self_taught import SelfTaught  # with torch, for which scripts need not wait
    from atradiff.project.artifacts import set_up_torch

    set_up_torch()
    with track("learn to collect", task.collect.training_steps) as advance:
        return SelfTaught(environment, task.collect, advance)
