from __future__ import annotations

from dataclasses import replace
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path

import pytest

from atradiff.errors import UserError
from atradiff.params.keys import all_keys, nearest
from atradiff.params.load import load_params
from atradiff.params.presets import preset
from atradiff.params.render import render_yaml, to_dict, to_settings
from atradiff.params.schema import Params
from atradiff.params.tasks import TASKS
from projects import ROOT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(render_yaml(preset("pointmaze-umaze")))
    return path


def test_the_projects_own_file_is_the_default_tasks_preset() -> None:
    assert (ROOT / "params.yaml").read_text() == render_yaml(preset("pointmaze-umaze"))


@pytest.mark.parametrize("task", TASKS)
def test_what_is_written_is_read_back(task: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(render_yaml(preset(task)))
    assert load_params(path) == preset(task)


def test_the_settings_are_every_key_that_holds_a_value() -> None:
    settings = to_settings(to_dict(preset("metaworld-door-open")))
    assert settings.keys() == {name for name, key in all_keys().items() if not key.section}
    assert settings["replay.offline_ratio"] == 0.5


def test_awkward_values_are_read_back(path: Path) -> None:
    params = preset("pointmaze-umaze")
    kwargs = {"text": 'a "quoted": #\\ text', "null": None, "yes": True, "tiny": 1e-9, "list": [[1, 2.5], []], "no": "on"}
    params = replace(params, task=replace(params.task, environment=replace(params.task.environment, kwargs=kwargs)))
    path.write_text(render_yaml(params))
    assert load_params(path) == params


def test_every_key_has_its_sentence_above_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    for key in all_keys().values():
        assert key.doc.endswith("."), key.name
        assert any(line.strip() == f"# {key.doc}" for line in lines), key.name


def test_overrides_are_read_as_yaml_in_order(path: Path) -> None:
    overrides = ["denoiser.horizons=[8, 24]", "agent.layer_norm=false", "agent.tau=1e-2", "agent.tau=0.02", "task.environment.kwargs.extra=x"]
    params = load_params(path, overrides)
    assert params.denoiser.horizons == [8, 24]
    assert params.agent.layer_norm is False
    assert params.agent.tau == 0.02
    assert params.task.environment.kwargs == {"continuing_task": False, "extra": "x"}


def test_missing_keys_keep_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("agent:\n  width: 64\n")
    assert load_params(path) == replace(Params(), agent=replace(Params().agent, width=64))
    path.write_text("")
    assert load_params(path) == Params()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("agent.utd_ration=2", "unknown key agent.utd_ration: did you mean agent.utd_ratio?"),
        ("utd_ratio=2", "unknown key utd_ratio: did you mean agent.utd_ratio?"),
        ("denoiser.trian.seed=1", "unknown key denoiser.trian: did you mean denoiser.train?"),
        ("agent.utd_ratio=0", "agent.utd_ratio is 0, but must be a whole number at least 1"),
        ("agent.utd_ratio=true", "agent.utd_ratio is true, but must be a whole number"),
        ("agent.tau=1.5", "agent.tau is 1.5, but must be a number above 0 and at most 1"),
        ("agent.tau=fast", '^params.yaml with --set: agent.tau is "fast", but must be a number'),
        ("agent.tau=.nan", "agent.tau is nan"),
        ("synthesis.reward=guess", 'synthesis.reward is "guess", but must be one of generated, goal, learned, oracle'),
        ("synthesis.maximum_length=0", "synthesis.maximum_length is 0, but must be a whole number at least 1 or null"),
        ("synthesis.length_quantile=0.3", "must be one of 0.1, 0.5, 0.9"),
        ("denoiser=3", "denoiser must be a section"),
        ("denoiser.horizons=[]", "denoiser.horizons is empty"),
        ("denoiser.horizons=[64, 32]", "strictly ascending: write \\[32, 64\\]"),
        ("denoiser.horizons=[32, 32]", "strictly ascending: write \\[32\\]"),
        ("denoiser.horizons=[1, 32]", "at least 2 rows"),
        ("denoiser.horizons=[1.5]", "each entry a whole number"),
        ("denoiser.network={backbone: dit, patch: 5}", "patch \\(5\\) must divide every one of denoiser.horizons, but does not divide 32"),
        ("denoiser.network={backbone: dit, width: 30}", "heads \\(4\\) must divide denoiser.network.width"),
        ("denoiser.network={backbone: unet, depth: 7}", "\\(64\\) must divide every one of denoiser.horizons"),
        ("agent.num_min_critics=3", "must be at most agent.num_critics, 2"),
        ("agent.dropout=1", "agent.dropout is 1, but must be a number at least 0 and below 1"),
        ("agent.algorithm=redq", "must be one of sac, td3, td3bc, iql, pex, calql: other algorithms are settings of these, see `atradiff algorithms`"),
        ("synthesis.sampler.sigma_max=0.001", "must be below synthesis.sampler.sigma_max"),
        ("task.name=../elsewhere", "names a folder"),
        ("task.environment.kwargs.when=2020-01-01", "only numbers, text"),
        ("agent.tau", "not of the form section.key=value"),
        ("agent.tau.x=1", "no section"),
        ("agent.tau=[", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named(path: Path, override: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_params(path, [override])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("agent: {tau: 0.1\n", "params.yaml is not valid YAML in line"),
        ("agent:\n  tau: 0.1\n  tau: 0.2\n", "not valid YAML in line 3"),
        ("- 1\n", "holds no sections"),
        ("1: 2\n", "unknown key 1"),
    ],
)
def test_a_broken_file_is_refused(path: Path, text: str, told: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        load_params(path)


def test_a_missing_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name a clone of the repository; `atradiff use TASK`"):
        load_params(tmp_path / "params.yaml")


def test_to_dict_holds_plain_values_only() -> None:
    def check(value: object) -> None:
        if isinstance(value, dict):
            for part in value.values():
                check(part)
        elif isinstance(value, list):
            for part in value:
                check(part)
        else:
            assert value is None or type(value) in (bool, int, float, str)

    check(to_dict(preset("pointmaze-large")))


def test_the_nearest_key_is_that_of_the_greatest_likeness() -> None:
    """Which is looked for in a shorter way than this."""

    def alike(known: str, name: str) -> float:
        words = (known.rpartition(".")[2], name.rpartition(".")[2]), (known, name)
        return sum(SequenceMatcher(None, *pair).ratio() for pair in words)

    for name in ["denoiser.trian.seed", "width", "agent.network.widht", "", "x" * 199 + ".tau", "synthesis.sampler"]:
        assert nearest(name) == max(all_keys(), key=partial(alike, name=name))
