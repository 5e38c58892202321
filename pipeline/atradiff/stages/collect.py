"""collect: the offline dataset is on this machine afterwards, collected, downloaded, or there already."""

from __future__ import annotations

import minari

from atradiff.data.collect import collect, read_recipe, recipe
from atradiff.data.convert import dataset_fingerprint, download_dataset, open_dataset
from atradiff.errors import UserError
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from atradiff.stages.progress import track
from atradiff.stages.training import write_json

LOCAL = "local/"


def run(params: Params, layout: Layout) -> None:
    """Make sure of the dataset and record what it is in dataset.json."""
    task = params.task
    dataset_id = task.dataset.id
    if dataset_id not in minari.list_local_datasets():
        if dataset_id.startswith(LOCAL):
            with track(f"collect {dataset_id}", task.collect.transitions) as advance:
                collect(dataset_id, task.environment, task.collect, advance)
        else:
            download_dataset(dataset_id)
    dataset = open_dataset(dataset_id)
    found = read_recipe(dataset)
    wanted = recipe(task.environment, task.collect)
    if found is not None and found != wanted:
        different = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
        raise UserError(
            f"the dataset {dataset_id!r} was collected with another {', '.join(different)} than params.yaml says: "
            f"delete it with `minari delete {dataset_id}`, or choose another task.dataset.id"
        )
    write_json(
        layout.dataset,
        {
            "id": dataset_id,
            "sha256": dataset_fingerprint(dataset),
            "episodes": int(dataset.total_episodes),
            "transitions": int(dataset.total_steps),
            "recipe": found,
        },
    )
