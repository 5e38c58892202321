"""What a run does about NaN and infinity: the evidence is kept, and then it stops or goes back to its last checkpoint's networks."""

from __future__ import annotations

import warnings
from pathlib import Path

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
    evidence = save_evidence(
        folder, f"{trainer.env_steps:09d}-{trainer.rolled_back}", error, env_steps=trainer.env_steps, gradient_steps=trainer.agent.gradient_steps
    )
    told = f"{error} at env step {trainer.env_steps:,}; what it arose in is in {evidence}"
    if trainer.config.on_bad_numbers == "stop":
        raise UserError(f"{told}: {REMEDY}; online.on_bad_numbers=roll_back goes on from the last checkpoint") from error
    state = checkpoints.latest(warnings.warn)
    if state is None:
        raise UserError(f"{told}, and there is no checkpoint yet to roll back to: {REMEDY}") from error
    if trainer.rolled_back >= MAXIMUM_ROLL_BACKS:
        raise UserError(f"{told}, for the {trainer.rolled_back + 1}th time: {REMEDY}") from error
    trainer.roll_back(state)


def save_evidence(folder: RunFolder, name: str, error: NotFinite, **steps: int) -> Path:
    """Save what the numbers arose in, and after how many steps; returns the file, `bad-numbers-NAME.pt` in the run's folder."""
    path = folder.path / f"bad-numbers-{name}.pt"
    torch.save({"where": error.where, **steps, **error.tensors()}, path)
    return path
