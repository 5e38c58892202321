"""Cells are made by pure functions, and every study's cells are valid for every task."""

from __future__ import annotations

from collections import Counter

import pytest

from atradiff.errors import UserError
from atradiff.flows.assemble import params_of_arm
from atradiff.studies.catalogue import ALL_MAZES, STUDIES, find_study
from atradiff.studies.cells import BUDGETS, make_cells, variants_of


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
@pytest.mark.parametrize("task", ALL_MAZES)
def test_every_variant_can_be_run(study, task: str) -> None:
    """Its settings are valid, no two variants are the same run, and its control is one of them."""
    variants = variants_of(study, task, {})
    cells = make_cells(study, [task], 1, {})
    params = [params_of_arm(cell.params(), cell.arm) for cell in cells]
    assert len({variant.label for variant in variants}) == len(variants)
    assert {variant.control for variant in variants} <= {variant.label for variant in variants}
    assert all(a != b for i, a in enumerate(params) for b in params[:i])
    for p in params:
        assert (p.online.env_steps, p.online.evaluate_every, p.online.evaluation_episodes) == (BUDGETS[task], 500, 20)


def test_studies_answer_what_they_are_named_after() -> None:
    def settings(name: str, key: str) -> list[object]:
        return [v.settings[key] for v in variants_of(STUDIES[name], "pointmaze-umaze", {}) if v.arm == "atradiff" and key in v.settings]

    assert settings("data-size", "task.dataset.share") == [0.01, 0.03, 0.1, 0.3, 1.0]
    assert settings("transitions-or-trajectories", "synthesis.maximum_length") == [1, 8, 32, 128]
    assert settings("ratio", "replay.synthetic_ratio") == [0.0, 0.2, 0.5, 0.8, 0.95]
    assert settings("adaptation", "adaptation.importance") == ["td_error", "reward", "curiosity", "uniform"]
    assert {settings("shift", "online.shift.actuator_gain")[0]} == set(settings("adaptation", "online.shift.actuator_gain")) == {-1.0}
    assert settings("shift", "adaptation.actuators") == [True, False, True]
    assert set(settings("adaptation", "adaptation.capacity")) == {2}
    assert settings("denoiser", "denoiser.network.backbone") == ["mlp", "dit", "unet"]
    assert settings("denoiser", "denoiser.train.gradient_steps") == [1500, 857, 217]
    assert settings("lengths", "denoiser.horizons") == [[128], [128], [32], [32]]
    assert settings("imitation", "agent.imitation_filter") == [False, True]


def test_every_variant_has_every_seed_on_every_task() -> None:
    cells = make_cells(STUDIES["arms"], ALL_MAZES, 3, {})
    assert Counter((cell.task, cell.label) for cell in cells) == {(t, arm): 3 for t in ALL_MAZES for arm in ("atradiff", "rlpd", "agent")}
    assert [cell.seed for cell in cells[:9]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert cells == make_cells(STUDIES["arms"], ALL_MAZES, 3, {})


def test_settings_are_told_apart_by_who_reads_them() -> None:
    cell = make_cells(STUDIES["data-size"], ["pointmaze-umaze"], 1, {"agent.width": 32, "denoiser.train.seed": 3})[0]
    assert cell.offline == {"task.dataset.share": 0.01, "denoiser.train.seed": 3}
    assert cell.online == {"online.evaluate_every": 500, "online.evaluation_episodes": 20, "online.env_steps": 5_000, "agent.width": 32}
    params = cell.params()
    assert (params.task.dataset.share, params.denoiser.train.seed, params.agent.width) == (0.01, 3, 32)


def test_the_users_settings_win_over_the_common_ones_and_move_the_variants() -> None:
    overrides = {"online.env_steps": 600, "denoiser.horizons": [8, 16]}
    cells = make_cells(STUDIES["arms"], ["pointmaze-umaze"], 1, overrides)
    assert {cell.params().online.env_steps for cell in cells} == {600}
    with pytest.raises(UserError, match=r"--set denoiser\.horizons is what the study lengths varies"):
        make_cells(STUDIES["lengths"], ["pointmaze-umaze"], 1, overrides)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [({"agent.utd_ration": 2}, "did you mean agent.utd_ratio"), ({"agent.tau": 7}, "at most 1"), ({"agent.tau.x": 7}, "no section")],
)
def test_settings_that_are_wrong_are_named(overrides: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=f"--set.*{told}"):
        make_cells(STUDIES["arms"], ["pointmaze-umaze"], 1, overrides)


def test_a_study_that_is_not_there() -> None:
    assert find_study("ratio").name == "ratio"
    with pytest.raises(UserError, match="no study 'ratios', did you mean ratio: `atradiff study list`"):
        find_study("ratios")


def test_little_data_relabels_nothing_where_no_rewards_of_real_states_are_told() -> None:
    labels = {task: [v.label for v in variants_of(STUDIES["little-data"], task, {})] for task in ("pointmaze-large", "metaworld-door-open")}
    assert "rlpd, 5k, relabelled" in labels["pointmaze-large"]
    assert labels["metaworld-door-open"] == ["atradiff, 20k", "rlpd, 20k", "atradiff, 5k", "rlpd, 5k"]
