"""A shifted task: the environment of the offline data with other actuators or joints, to see what adaptation is worth (ours)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium as gym
from annotated_types import Ge
from typing_extensions import Doc

from atradiff.errors import UserError


@dataclass(frozen=True)
class ShiftConfig:
    """How the online and the evaluation environment differ from the one that the offline data is from; 1.0 is not at all."""

    actuator_gain: Annotated[float, Doc("Factor on the force of every MuJoCo actuator; below zero it pushes the other way.")] = 1.0
    damping: Annotated[float, Ge(0), Doc("Factor on the damping of every MuJoCo joint.")] = 1.0


UNSHIFTED = ShiftConfig()


def shift_environment(environment: gym.Env[Any, Any], shift: ShiftConfig, name: str) -> None:
    """Change the environment's MuJoCo model in place; raises `UserError`, with the environment's `name`, where it has none."""
    if shift == UNSHIFTED:
        return
    model: Any = getattr(environment.unwrapped, "model", None)
    if not (hasattr(model, "actuator_gainprm") and hasattr(model, "dof_damping")):
        raise UserError(f"online.shift changes a MuJoCo model and {name} has none: set online.shift.actuator_gain and online.shift.damping to 1.0")
    model.actuator_gainprm[:] *= shift.actuator_gain  # force = gain * control + bias: a motor has no bias, a servo both
    model.actuator_biasprm[:] *= shift.actuator_gain
    model.dof_damping[:] *= shift.damping
