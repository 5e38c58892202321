"""What a line of metrics tells of imagination, adaptation and the critics; None where there is nothing to tell of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from atradiff.agents.actor_critic import ActorCritic
from atradiff.online.adaptation import Adapted
from atradiff.online.distance import Distances
from atradiff.replay.mixed import MixedReplay
from atradiff.synthesis.synthesizer import Synthesizer

Told = tuple[int, float, bool]
"""Of an imagined trajectory: its length, its estimated length, whether it terminated."""
KEPT_FOR_PICTURES = 32
"""Imagined trajectories, the latest ones; these are told of in metrics, too."""
WATCHED = 256
"""Transitions on which the critics are measured."""


def adaptation_metrics(
    adaptations: Sequence[Adapted], distances: Sequence[Distances], synthesizer: Synthesizer | None
) -> dict[str, float | None]:
    """Of the last adaptation: how far imagined steps were from real ones before and after it, what the kept denoisers lost on held-out
    offline data, as a share, and the actuators' mean strength."""
    lost = [a.loss_after / a.loss_original - 1 for a in adaptations if a.model.startswith("denoiser") and not a.rolled_back]
    actuators = synthesizer.actuators if synthesizer is not None else None
    last = distances[-1] if distances else None
    return {
        "adaptation/distance_before": last.before if last else None,
        "adaptation/distance_after": last.after if last else None,
        "adaptation/forgotten": float(np.mean(lost)) if lost else None,
        "adaptation/strength": float(actuators.strength.mean()) if actuators is not None else None,
    }


def imagination_metrics(latest: Sequence[Told], ends: bool) -> dict[str, float | None]:
    """Of the latest trajectories: the share that end the task, where the offline data knows of any end, and how far these are from their estimated
    length."""
    ended = [(length, estimate) for length, estimate, terminated in latest if terminated]
    return {
        "synthesis/ended_share": len(ended) / len(latest) if latest and ends else None,
        "synthesis/length_error": float(np.mean([abs(length / estimate - 1) for length, estimate in ended])) if ended else None,
    }


def critic_errors(agent: ActorCritic, replay: MixedReplay, generator: torch.Generator) -> dict[str, float | None]:
    """The critics' mean error on either replay."""
    errors: dict[str, float | None] = {}
    for name, buffer in (("online", replay.online), ("imagined", replay.synthetic)):
        known = len(buffer) > 0
        errors[f"critic/error_{name}"] = float(agent.td_error(buffer.sample(WATCHED, generator), generator).mean()) if known else None
    return errors
