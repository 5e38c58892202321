"""Imagined trajectories as a Minari dataset, for whoever reads those."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from atradiff.data.environment import TaskEnvironment
from atradiff.data.record import IMAGINED, Unsplit, require_new, write_dataset
from atradiff.data.store import OfflineData
from atradiff.online.seeds import make_generator
from atradiff.online.starts import reset_starts
from atradiff.params.schema import Params
from atradiff.project.artifacts import load_split, load_synthesizer
from atradiff.project.layout import Layout
from atradiff.trajectory import Array, Trajectory

Starts = Literal["offline", "reset"]
BATCH = 256
"""Trajectories imagined at once."""


def synthesize(
    params: Params, layout: Layout, device: str, count: int, starts: Starts, seed: int, out: str, report: Callable[[int], None]
) -> list[Trajectory]:
    """Imagine `count` trajectories and write them as the Minari dataset `out`, with a note of the models, data and settings behind them.

    They begin in states of the offline data, each under the task of its episode, or where the environment's episodes begin.
    `report` hears the count. Raises `UserError` where `out` is taken or no id.
    """
    require_new(out)
    environment = TaskEnvironment(params.task.environment)
    kept, _ = load_split(layout, params)
    synthesizer = load_synthesizer(layout, params, kept, device, environment)
    states, tasks = _offline_starts(kept, count, seed) if starts == "offline" else reset_starts(environment, seed, range(count))
    generator = make_generator(seed, "synthesis")
    trajectories: list[Trajectory] = []
    for first in range(0, count, BATCH):
        part = slice(first, first + BATCH)
        trajectories += [imagined.trajectory for imagined in synthesizer(states[part], tasks[part], generator)]
        report(len(trajectories))
    unsplit = Unsplit(environment)
    note = {"count": count, "starts": starts, "seed": seed, **_provenance(params, layout)}
    write_dataset(out, [unsplit(t) for t in trajectories], environment, "ATraDiff's synthesizer", IMAGINED, note, unsplit.space)
    environment.close()
    return trajectories


def _offline_starts(data: OfflineData, count: int, seed: int) -> tuple[Array, Array]:
    """States `[N, O]` of the data, drawn uniformly from all that a transition begins in, and the tasks `[N, K]` of their episodes."""
    rows = np.random.default_rng(seed).choice(data.transition_rows(), size=count)
    return data.states[rows], data.tasks[data.episodes_of(rows)]


def _provenance(params: Params, layout: Layout) -> dict[str, Any]:
    """What the trajectories come from: the data, the models' files and the settings of synthesis."""
    models = {f"denoiser {horizon}": layout.denoiser(horizon).model for horizon in params.denoiser.horizons}
    models["length estimator"] = layout.length_estimator.model
    if params.synthesis.reward == "learned":
        models["reward model"] = layout.reward_model.model
    return {
        "atradiff": version("atradiff"),
        "task": params.task.name,
        "data": json.loads(layout.dataset.read_text()),
        "models_sha256": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in models.items()},
        "synthesis": asdict(params.synthesis),
    }
