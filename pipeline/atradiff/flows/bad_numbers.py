"""What a run does about NaN and infinity: the evidence is kept, and then it stops or goes back to its last checkpoint's networks."""

from __future__ import annotations

import warnings

import torch

from atradiff.errors import UserError
from atradiff.flows.checkpoints import Checkpoints
from atradiff.flows.run_folder import RunFolder
from atradiff.numbers import NotFinite
from atradiff.online.trainer import Trainer

MAXIMUM_ROLL_BACKS = 10
REMEDY = "lower agent.critic_learning_rate, train the models longer if they imagined it, or mend the environment"


def meet_bad_numbers(folder: RunFolder, checkpoints: Checkpoints, trainer: Trainer, error: NotFinite) -> None:
    """Save what the numbers arose in into the run's folder and, if online.on_bad_numbers says so, roll the trainer back.

    Raises `UserError` where the run stops: by setting, without a checkpoint to go back to, or when it has gone back too often.
    """
    evidence = folder.path / f"bad-numbers-{trainer.env_steps:09d}-{trainer.rolled_back}.pt"
    torch.save({"where": error.where, "env_steps": trainer.env_steps, "gradient_steps": trainer.agent.gradient_steps, **error.tensors()}, evidence)
    told = f"{error} at env step {trainer.env_steps:,}; what it arose in is in {evidence}"
    if trainer.config.on_bad_numbers == "stop":
        raise UserError(f"{told}: {REMEDY}; online.on_bad_numbers=roll_back goes on from the last checkpoint") from error
    state = checkpoints.latest(warnings.warn)
    if state is None:
        raise UserError(f"{told}, and there is no checkpoint yet to roll back to: {REMEDY}") from error
    if trainer.rolled_back >= MAXIMUM_ROLL_BACKS:
        raise UserError(f"{told}, for the {trainer.rolled_back + 1}th time: {REMEDY}") from error
    trainer.roll_back(state)
