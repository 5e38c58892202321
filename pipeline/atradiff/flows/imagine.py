"""Imagination beside reality, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Imagine from `count` resets of the task, and draw that beside the offline episodes nearest to each in start and goal."""
    environment = TaskEnvironment(params.task.environment)
    split = load_split(layout, params)
    synthesizer = load_synthesizer(layout, params, split[0], device, environment)
    starts = [environment.reset(episode_seed(seed, number)) for number in range(count)]
    states, tasks = (np.stack(parts) for parts in zip(*starts, strict=True))
    imagined = synthesizer(states, tasks, make_generator(seed, "synthesis"))
    real = nearest_episodes(split, synthesizer.estimator.normalizer, states, tasks)
    draw_imagined(out, imagined, real, environment, ("Imagined", "Real, the nearest offline"))
    environment.close()
    return imagined


def nearest_episodes(parts: Sequence[OfflineData], normalizer: Normalizer, states: Array, tasks: Array) -> list[Trajectory]:
    """For each of the starts, `states [N, O]` under `tasks [N, K]`, the episode that begins nearest to it, in normalised units, and is not shown yet."""
    starts = [np.concatenate([normalizer.states(part.states[part.episode_starts]), normalizer.tasks(part.tasks)], axis=-1) for part in parts]
    episodes, there = [(part, e) for part, found in zip(parts, starts, strict=True) for e in range(len(found))], np.concatenate(starts)
    nearest: list[int] = []
    for here in np.concatenate([normalizer.states(states), normalizer.tasks(tasks)], axis=-1)[: len(there)]:
        distances = np.linalg.norm(there - here, axis=-1)
        distances[nearest] = np.inf
        nearest.append(int(distances.argmin()))
    return [part.trajectory(e) for part, e in (episodes[n] for n in nearest)]
