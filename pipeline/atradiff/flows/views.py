"""What runs show of imagination beside reality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atradiff.data.environment import TaskEnvironment
from atradiff.data.simulator import find_maze
from atradiff.reporting.pictures import imagined_over_maze
from atradiff.reporting.run_pictures import Lengths
from atradiff.synthesis.length_estimator import LengthEstimator
from atradiff.synthesis.synthesizer import Imagined
from atradiff.trajectory import Trajectory

DRAWN = 12
LENGTHS_OF_EPISODE = 6


def draw_imagined(
    path: Path, imagined: Sequence[Imagined], real: Sequence[Trajectory], environment: TaskEnvironment, titles: tuple[str, str]
) -> None:
    """The trajectories over the environment's maze, or projected, with what the pruner took away."""
    imagined_over_maze(
        path,
        [one.trajectory for one in imagined],
        real,
        find_maze(environment),
        environment.config.achieved_goal or (0, 1),
        titles=titles,
        removed=[stretch for one in imagined for stretch in one.removed()],
    )


def lengths_of(real: Sequence[Trajectory], estimator: LengthEstimator) -> Lengths:
    """From some states of each of the real episodes: the steps that were left, and those that the estimator tells."""
    rows = [np.linspace(0, len(t) - 1, min(LENGTHS_OF_EPISODE, len(t))).astype(int) for t in real]
    states = np.concatenate([t.states[r] for t, r in zip(real, rows, strict=True)])
    tasks = np.concatenate([np.broadcast_to(t.task, (len(r), len(t.task))) for t, r in zip(real, rows, strict=True)])
    left = np.concatenate([len(t) - r for t, r in zip(real, rows, strict=True)])
    cut_short = np.concatenate([np.full(len(r), not t.terminated) for t, r in zip(real, rows, strict=True)])
    return Lengths(left, estimator.predict(states, tasks), cut_short)
