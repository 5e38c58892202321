"""Imagination beside reality, in one picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from atradiff.data.environment import TaskEnvironment
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.flows.views import draw_imagined
from atradiff.online.seeds import episode_seed, make_generator
from atradiff.params.schema import Params
from atradiff.project.artifacts import load_split, load_synthesizer
from atradiff.project.layout import Layout
from atradiff.synthesis.synthesizer import Imagined
from atradiff.trajectory import Array, Trajectory


def imagine_beside_real(params: Params, layout: Layout, device: str, count: int, seed: int, out: Path) -> list[Imagined]:
    """Imagine from `count` resets of the task, and draw that beside the `count` offline episodes nearest in start and goal."""
    environment = TaskEnvironment(params.task.environment)
    split = load_split(layout, params)
    synthesizer = load_synthesizer(layout, params, split[0], device, environment)
    starts = [environment.reset(episode_seed(seed, number)) for number in range(count)]
    states, tasks = (np.stack(parts) for parts in zip(*starts, strict=True))
    imagined = synthesizer(states, tasks, make_generator(seed, "synthesis"))
    real = _nearest(split, synthesizer.estimator.normalizer, states[0], tasks[0], count)
    draw_imagined(out, imagined, real, environment, ("Imagined", "Real, the nearest offline"))
    environment.close()
    return imagined


def _nearest(parts: Iterable[OfflineData], normalizer: Normalizer, state: Array, task: Array, count: int) -> list[Trajectory]:
    """The `count` episodes whose first state and task are nearest to `state [O]` and `task [K]`, in normalised units."""
    here = np.concatenate([normalizer.states(state), normalizer.tasks(task)])
    found: list[tuple[float, OfflineData, int]] = []
    for part in parts:
        there = np.concatenate([normalizer.states(part.states[part.episode_starts]), normalizer.tasks(part.tasks)], axis=-1)
        distances = np.linalg.norm(there - here, axis=-1)
        found += [(float(distances[e]), part, int(e)) for e in np.argsort(distances)[:count]]
    found.sort(key=lambda item: item[0])
    return [part.trajectory(episode) for _, part, episode in found[:count]]
