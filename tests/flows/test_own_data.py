"""Data without goals, as most data of one's own is, to the end of a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import toys
from atradiff.flows.assemble import build_trainer
from atradiff.online.plan import plan
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from projects import online_params, train_models


@pytest.fixture(scope="module")
def balance(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Layout]:
    """A project with the models of such a task."""
    p = online_params()
    task = replace(
        p.task,
        name="balance",
        dataset=replace(p.task.dataset, id="local/balance/random-v0"),
        collect=replace(p.task.collect, quality="random"),
        environment=toys.BALANCE,
    )
    params = replace(p, task=task, synthesis=replace(p.synthesis, reward="generated"))
    layout = Layout(tmp_path_factory.mktemp("balance"), "balance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(layout.root / "minari"))
        train_models(params, layout)
    return params, layout


@pytest.mark.parametrize("arm", ["atradiff", "rlpd", "agent"])
def test_every_arm_learns_where_there_are_no_goals(balance: tuple[Params, Layout], arm: str) -> None:
    params, layout = balance
    trainer = build_trainer(params, arm, 0, layout, "cpu")
    phases = [phase for phase in plan(params.online, params.adaptation.adapt_every) if phase.kind != "checkpoint"]
    rows = [metrics for phase in phases if (metrics := trainer.run_phase(phase)) is not None]
    assert [row["env_steps"] for row in rows] == [0, 20, 40, 60]
    assert all(np.isfinite(row["eval/return"]) and row["eval/success_rate"] is None for row in rows)
    assert (rows[-1]["synthesis/trajectories"] > 0) == (arm == "atradiff")
