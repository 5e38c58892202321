"""One update, and a look at what came of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atradiff.agents.actor_critic import ActorCritic
from atradiff.numbers import NotFinite
from atradiff.trajectory import TransitionBatch

LOOK_EVERY = 100
"""Updates between looks at the losses of an agent that is not on the CPU."""


def learn(agent: ActorCritic, batch: TransitionBatch, generator: torch.Generator) -> dict[str, Tensor]:
    """Update the agent; returns what it logs.

    Raises `NotFinite`, with the batch as evidence, where a loss is NaN or infinite; on a GPU, which would be waited for, up to `LOOK_EVERY` updates later.
    """
    logs = agent.update(batch, generator)
    if agent.device.type == "cpu" or agent.gradient_steps // agent.config.utd_ratio % LOOK_EVERY == 0:
        values = {name: float(value) for name, value in logs.items()}
        if not all(map(math.isfinite, values.values())):
            raise NotFinite("the agent's losses", {**batch._asdict(), **values})
    return logs
