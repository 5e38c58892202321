"""Algorithms by name: each is a few settings of `sac` or `td3`.

A name sets what makes the algorithm: its critics, what the actor climbs, how often they learn. What papers tune to their benchmark (sizes,
rates, temperature, the entropy in the targets, n) stays as the task has it, and so does what a batch is made of, which is the arm's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atradiff.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Algorithm:
    """What an algorithm sets, as dotted keys of params.yaml."""

    paper: str
    settings: Mapping[str, Any]


PLAIN: Mapping[str, Any] = {
    "agent.algorithm": "sac",
    "agent.num_critics": 2,
    "agent.num_min_critics": 2,
    "agent.layer_norm": False,
    "agent.dropout": 0.0,
    "agent.utd_ratio": 1,
    "agent.actor_value": "mean",
}
"""Every algorithm sets these, so that nothing of another one is left when its name is given."""

ALGORITHMS = {
    "sac": Algorithm("Haarnoja et al. 2018", {**PLAIN, "agent.actor_value": "min"}),
    "td3": Algorithm("Fujimoto et al. 2018", {**PLAIN, "agent.algorithm": "td3", "agent.utd_ratio": 2, "agent.actor_value": "first"}),
    "redq": Algorithm("Chen et al. 2021", {**PLAIN, "agent.num_critics": 10, "agent.utd_ratio": 20}),
    "rlpd": Algorithm("Ball et al. 2023", {**PLAIN, "agent.num_critics": 10, "agent.layer_norm": True, "agent.utd_ratio": 20}),
    "droq": Algorithm("Hiraoka et al. 2022", {**PLAIN, "agent.layer_norm": True, "agent.dropout": 0.01, "agent.utd_ratio": 20}),
}


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    raise UserError(f"there is no algorithm {name!r}{did_you_mean(name, ALGORITHMS)}: `atradiff algorithms` lists them all")
