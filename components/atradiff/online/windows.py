"""Real online trajectories as training data of the models: the same windows and states as offline data gives."""

from __future__ import annotations

from atradiff.data.normalizer import Normalizer
from atradiff.data.store import stack_trajectories
from atradiff.data.windows import Windows
from atradiff.trajectory import Trajectory


def trajectory_windows(trajectories: list[Trajectory], horizon: int, normalizer: Normalizer) -> Windows:
    """Windows of `horizon` rows over real trajectories, normalised as the offline data is."""
    return Windows(stack_trajectories(trajectories, normalizer.spec), horizon, normalizer)
