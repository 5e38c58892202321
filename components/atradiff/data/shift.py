"""A shifted task: the environment of the offline data with other actuators, joints, contacts or goals, to see what adaptation is worth (ours)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium as gym
from annotated_types import Ge, Gt
from typing_extensions import Doc

from atradiff.errors import UserError


@dataclass(frozen=True)
class ShiftConfig:
    """How the online and the evaluation environment differ from the one that the offline data is from; 1.0 is not at all."""

    actuator_gain: Annotated[float, Doc("Factor on the force of every MuJoCo actuator; below zero it pushes the other way.")] = 1.0
    damping: Annotated[float, Ge(0), Doc("Factor on the damping of every MuJoCo joint.")] = 1.0
    friction: Annotated[float, Ge(0), Doc("Factor on the friction of every MuJoCo contact.")] = 1.0
    goal_region: Annotated[float, Gt(0), Doc("Meta-World: factor on the width and depth of the regions that goals and objects are drawn from.")] = 1.0


UNSHIFTED = ShiftConfig()


def shift_environment(environment: gym.Env[Any, Any], shift: ShiftConfig, name: str) -> None:
    """Change the environment in place, by its own `shift_by` where it has one; raises `UserError`, with the environment's `name`, where it cannot be."""
    if shift == UNSHIFTED:
        return
    bare: Any = environment.unwrapped
    if hasattr(bare, "shift_by"):
        bare.shift_by(shift)
        return
    if shift.goal_region != 1.0:
        raise UserError(f"online.shift.goal_region is of Meta-World's tasks, and {name} is none: set it to 1.0")
    model = getattr(bare, "model", None)
    if not (hasattr(model, "actuator_gainprm") and hasattr(model, "dof_damping")):
        raise UserError(f"online.shift changes a MuJoCo model and {name} has none: set all of online.shift to 1.0")
    shift_model(model, shift)


def shift_model(model: Any, shift: ShiftConfig) -> None:
    """Change a MuJoCo model in place."""
    model.actuator_gainprm[:] *= shift.actuator_gain  # force = gain * control + bias: a motor has no bias, a servo both
    model.actuator_biasprm[:] *= shift.actuator_gain
    model.dof_damping[:] *= shift.damping
    model.geom_friction[:] *= shift.friction
