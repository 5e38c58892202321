"""Wherever NaN arises in a run, it is saved, and neither stored nor learned from; the run stops, or goes on from its last checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atradiff.errors import UserError
from atradiff.flows.bad_numbers import MAXIMUM_ROLL_BACKS
from atradiff.flows.online_run import OnlineRun
from atradiff.numbers import require_finite_state
from atradiff.online.trainer import Trainer
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from projects import online_params


def in_critics(trainer: Trainer) -> None:
    with torch.no_grad():
        next(trainer.agent.critic.parameters()).fill_(torch.nan)


def in_denoisers(trainer: Trainer) -> None:
    assert trainer.imagination is not None
    with torch.no_grad():
        for denoiser in trainer.imagination.synthesizer.bank.current.values():
            next(denoiser.backbone.parameters()).fill_(torch.nan)


def in_environment(trainer: Trainer) -> None:
    step, answers = trainer.environment.env.step, iter([True])

    def broken(action: np.ndarray) -> tuple[object, ...]:
        observation, *rest = step(action)
        if next(answers, False):
            observation["observation"] = observation["observation"] * np.nan
        return (observation, *rest)

    trainer.environment.env.step = broken  # type: ignore[method-assign, assignment]


PLACES = [
    (in_critics, "agent's (losses|actor)|action", {"observation", "reward"}),
    (in_denoisers, "windows of .* rows that were imagined", {"states", "rows"}),
    (in_environment, "environment's answer", {"action", "state", "reward"}),
]


def begin(params: Params, path: Path, layout: Layout, on_bad_numbers: str) -> OnlineRun:
    params = replace(params, online=replace(params.online, on_bad_numbers=on_bad_numbers))  # type: ignore[arg-type]
    return OnlineRun.begin(params, "atradiff", 0, path, layout, "cpu")


def until_checkpoint(run: OnlineRun) -> int:
    """Do all up to the first checkpoint; returns the number of the next phase."""
    count = next(i for i, phase in enumerate(run.phases) if phase.kind == "checkpoint") + 1
    for phase in run.phases[:count]:
        run.do(phase, lambda env_steps: None)
    return count


@pytest.mark.parametrize(("poison", "where", "evidence"), PLACES, ids=["critics", "denoisers", "environment"])
def test_bad_numbers(online_project: Layout, tmp_path: Path, poison: Callable[[Trainer], None], where: str, evidence: set[str]) -> None:
    """They stop the run; told to roll back, the same run goes on to its end."""
    run = begin(online_params(), tmp_path / "run", online_project, "stop")
    done = until_checkpoint(run)
    poison(run.trainer)
    with pytest.raises(UserError, match=rf"NaN or infinity in .*({where}).* at env step \d+; what it arose in is in .*bad-numbers"):
        run.do(run.phases[done], lambda env_steps: None)
    (saved,) = run.folder.path.glob("bad-numbers-*.pt")
    content = torch.load(saved, weights_only=True)
    assert evidence <= set(content)
    assert not all(part.isfinite().all() for part in content.values() if isinstance(part, torch.Tensor))

    run.trainer.config = replace(run.trainer.config, on_bad_numbers="roll_back")
    poison(run.trainer)
    for phase in run.phases[done:]:
        run.do(phase, lambda env_steps: None)
    assert run.trainer.env_steps == run.params.online.env_steps
    assert [row["env_steps"] for row in run.folder.metrics()] == [0, 20, 40, 60]
    assert [symptom.name for symptom in run.symptoms()].count("bad numbers") == 1
    require_finite_state("the newest checkpoint", run.checkpoints.latest(pytest.fail))
    require_finite_state("the replay", run.trainer.replay.state_dict())


def test_a_network_with_nan_is_in_no_checkpoint(online_project: Layout, tmp_path: Path) -> None:
    run = begin(online_params(), tmp_path / "run", online_project, "stop")
    checkpoint = run.phases[until_checkpoint(run) - 1]
    in_critics(run.trainer)
    with pytest.raises(UserError, match="NaN or infinity in agent, critic"):
        run.do(checkpoint, lambda env_steps: None)
    require_finite_state("the newest checkpoint", run.checkpoints.latest(pytest.fail))


def test_there_must_be_a_checkpoint_to_go_back_to(online_project: Layout, tmp_path: Path) -> None:
    run = begin(online_params(), tmp_path / "run", online_project, "roll_back")
    in_critics(run.trainer)
    with pytest.raises(UserError, match=r"no checkpoint yet to roll back to: lower agent.critic_learning_rate, train the models longer if they imagined it"):
        run.do(run.phases[0], lambda env_steps: None)


def test_a_run_does_not_go_back_for_ever(online_project: Layout, tmp_path: Path) -> None:
    run = begin(online_params(), tmp_path / "run", online_project, "roll_back")
    done = until_checkpoint(run)
    run.trainer.rolled_back = MAXIMUM_ROLL_BACKS
    in_denoisers(run.trainer)
    with pytest.raises(UserError, match=rf"for the {MAXIMUM_ROLL_BACKS + 1}th time"):
        run.do(run.phases[done], lambda env_steps: None)
