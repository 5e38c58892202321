"""convert: the Minari dataset becomes the Zarr store, checked against the environment."""

from __future__ import annotations

from atradiff.data.convert import convert, draw_episodes, open_dataset
from atradiff.data.environment import TaskEnvironment
from atradiff.data.store import write_store
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from atradiff.stages.progress import track


def run(params: Params, layout: Layout) -> None:
    """Write store.zarr."""
    dataset = open_dataset(params.task.dataset.id)
    episodes = draw_episodes(dataset, params.task.dataset.share)
    with track(f"convert {params.task.dataset.id}", len(episodes)) as advance:
        data = convert(dataset, advance, episodes)
    environment = TaskEnvironment(params.task.environment)
    environment.require_fit(data.spec, f"dataset {params.task.dataset.id!r}")
    environment.close()
    layout.store.parent.mkdir(parents=True, exist_ok=True)
    write_store(layout.store, data, {"dataset": params.task.dataset.id})
