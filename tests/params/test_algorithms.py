"""Algorithms by name: settings that are valid together, and leave nothing of one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from atradiff.errors import UserError
from atradiff.params.algorithms import ALGORITHMS, PLAIN, find_algorithm
from atradiff.params.load import load_params, with_settings
from atradiff.params.presets import preset
from atradiff.params.render import render_yaml
from projects import ROOT


def test_each_name_says_everything_that_any_says() -> None:
    params = [with_settings(preset("pointmaze-umaze"), algorithm.settings, name) for name, algorithm in ALGORITHMS.items()]
    assert all(set(algorithm.settings) == set(PLAIN) for algorithm in ALGORITHMS.values())
    assert all(a != b for i, a in enumerate(params) for b in params[:i])


def test_the_method_page_lists_what_the_names_set() -> None:
    rows = [line.strip("| \n").split(" | ") for line in (ROOT / "docs" / "method.md").read_text().splitlines()]
    table = {row[0].strip("`"): row[2:] for row in rows if len(row) == 2 + len(ALGORITHMS) and row[0] != "---"}
    assert table.pop("setting, `agent.") == list(ALGORITHMS)
    for key in PLAIN:
        values = [algorithm.settings[key] for algorithm in ALGORITHMS.values()]
        assert table.pop(key.removeprefix("agent.")) == [f"{v:g}" if isinstance(v, float) else str(v).lower() for v in values]
    assert not table


def test_what_the_user_sets_wins_over_the_name(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(render_yaml(with_settings(preset("pointmaze-umaze"), ALGORITHMS["redq"].settings, "redq")))
    agent = load_params(path, ["agent.utd_ratio=3"], algorithm="droq").agent
    assert (agent.num_critics, agent.layer_norm, agent.dropout, agent.utd_ratio) == (2, True, 0.01, 3)
    assert load_params(path).agent.num_critics == 10


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(UserError, match="no algorithm 'redqq', did you mean redq: `atradiff algorithms`"):
        find_algorithm("redqq")
