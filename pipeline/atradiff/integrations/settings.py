"""What the libraries' replay buffers are told, in place of the project's own settings."""

from __future__ import annotations

from dataclasses import replace

from atradiff.replay.mixed import ReplayConfig


def replay_config(project: ReplayConfig, capacity: int | None, synthetic_ratio: float | None, n_steps: int | None) -> ReplayConfig:
    """The project's settings, but for those that are given."""
    given = {"online_capacity": capacity, "synthetic_ratio": synthetic_ratio, "n_step": n_steps}
    return replace(project, **{name: value for name, value in given.items() if value is not None})
