"""The studies that come with the project. The control is `rlpd`: the same agent and data, no imagination."""

from __future__ import annotations

from typing import Any

from atradiff.errors import UserError, did_you_mean
from atradiff.flows.assemble import Arm
from atradiff.params.algorithms import ALGORITHMS
from atradiff.params.schema import Params
from atradiff.params.tasks import METAWORLD
from atradiff.studies.cells import Study, Variant

CONTROL = "rlpd"
ALL_MAZES = ("pointmaze-umaze", "pointmaze-medium", "pointmaze-large")
FAR_MAZES = ("pointmaze-medium", "pointmaze-large")
ONE_MAZE = ("pointmaze-medium",)
STUDIED_UTD_RATIO = 4
"""Critic steps for each env step at most; the published 20 would cost five times as much."""
SHIFTED = {"online.shift.actuator_gain": -1.0}
"""Factors from 0.2 to 5 change nothing: whoever imitates ways to the goal is a feedback controller. Reversed actuators do."""
OWN_GOALS: dict[str, Any] = {"control.offline_goals": "own", "control.imitation_filter": False}
RELABELLED: dict[str, Any] = {"control.offline_goals": "task", "control.imitation_filter": True}
"""Most actions of a relabelled episode lead elsewhere, so there is a filter."""
STEP_COSTS = {"mlp": 1.0, "dit": 1.75, "unet": 6.9}
"""What a gradient step of the sizes in the study `denoiser` takes, in the mlp's: process time of a core, windows of 32, 64 and 128 rows together."""
FOLLOWING = {"adaptation.adapt_every": 100, "adaptation.gradient_steps": 10, "adaptation.learning_rate": 1e-4, "adaptation.actuators": True}
"""To adapt often, and each time a little."""


def _imagining(label: str, settings: dict[str, Any] | None = None, control: str = CONTROL, arm: Arm = "atradiff") -> Variant:
    return Variant(label, arm, control, settings or {})


def _rlpd(label: str = CONTROL, settings: dict[str, Any] | None = None) -> Variant:
    return Variant(label, "rlpd", label, settings or {})


def _arms(params: Params) -> list[Variant]:
    """The control is the strongest of the study `controls` on the task, as its preset has it; RLPD as published does not imitate, see `imitation`."""
    return [_imagining("atradiff"), _rlpd(), _imagining("agent", arm="agent")]


def _controls(params: Params) -> list[Variant]:
    """What the control may make of its offline data."""
    ways = {"own goals": OWN_GOALS, "own goals, filtered": {**OWN_GOALS, "control.imitation_filter": True}, "relabelled": RELABELLED}
    ours = _imagining("atradiff", control="own goals")
    return [ours, *(Variant(label, "rlpd", "own goals", settings) for label, settings in ways.items())]


def _metaworld(params: Params) -> list[Variant]:
    """Without data the plain agent meets no success in such budgets, so it is left out."""
    return [_imagining("atradiff"), _rlpd()]


def _plug_in(params: Params) -> list[Variant]:
    """Each algorithm with and without imagination. Only RLPD has offline data, in half of what is not imagined, or of everything."""
    variants: list[Variant] = []
    for name, algorithm in ALGORITHMS.items():
        settings = {**algorithm.settings, "agent.utd_ratio": min(algorithm.settings["agent.utd_ratio"], STUDIED_UTD_RATIO)}
        plain: Arm = "rlpd" if name == "rlpd" else "agent"
        data = {"replay.offline_ratio": params.replay.half_of_the_real} if plain == "rlpd" else {}
        variants += [_imagining(f"{name} with ATraDiff", {**settings, **data}, name), Variant(name, plain, name, settings)]
    return variants


def _rewards(params: Params) -> list[Variant]:
    """Every arm but the oracle: none asks the environment for the reward of a state that it did not visit. The control has its data's own."""
    arms = [_imagining(reward, {"synthesis.reward": reward}) for reward in ("goal", "generated", "learned")]
    return [*arms, _rlpd(settings=OWN_GOALS)]


def _short_episodes(params: Params) -> list[Variant]:
    """No goal is farther than two cells from where its episode began, as in the stitch data sets of OGBench (Park et al. 2024)."""
    maze = params.task.dataset.id.removesuffix("-v0")
    short = {"task.dataset.id": f"{maze}-short-v0", "task.collect.maximum_cells": 2, "task.collect.maximum_steps": 64}
    return [_imagining("atradiff", short), _rlpd(settings={**short, **OWN_GOALS})]


def _of_shares(shares: dict[str, float], ways: dict[str, dict[str, Any]]) -> list[Variant]:
    """ATraDiff and the control, in each of its ways, on the same share of the offline episodes, for each of the shares by label."""
    variants: list[Variant] = []
    for label, share in shares.items():
        settings, control = {"task.dataset.share": share}, f"rlpd, {label}"
        variants += [_imagining(f"atradiff, {label}", settings, control), _rlpd(control, settings)]
        variants += [Variant(f"{control}, {way}", "rlpd", control, {**settings, **more}) for way, more in ways.items()]
    return variants


def _little_data(params: Params) -> list[Variant]:
    """Shares of the 200,000 transitions. The control in the other way than the task's preset has it as well: who wins may depend on how much there is.
    Nothing can be relabelled where no rewards of real states are told."""
    other = {"own goals": OWN_GOALS} if params.control.offline_goals == "task" else {"relabelled": RELABELLED}
    return _of_shares({"20k": 0.1, "5k": 0.025}, other if params.synthesis.reward != "generated" else {})


def _imitation(params: Params) -> list[Variant]:
    """Each arm with none, all, and what the critics hold for better than the actor's own; the control under its data's own goals."""
    degrees: dict[str, dict[str, Any]] = {
        "none": {"agent.imitation_weight": 0.0},
        "all": {"agent.imitation_filter": False, "control.imitation_filter": False},
        "filtered": {"agent.imitation_filter": True, "control.imitation_filter": True},
    }
    ours = [_imagining(f"atradiff, {degree}", settings, f"rlpd, {degree}") for degree, settings in degrees.items()]
    return [*ours, *(_rlpd(f"rlpd, {degree}", {**OWN_GOALS, **settings}) for degree, settings in degrees.items())]


def _data_size(params: Params) -> list[Variant]:
    return _of_shares({f"{share:.0%}": share for share in (0.01, 0.03, 0.1, 0.3, 1.0)}, {})


def _lengths(params: Params) -> list[Variant]:
    """The task's shortest and longest model alone, and all of them, with and without what the pruner removes."""
    short, long = params.denoiser.horizons[0], params.denoiser.horizons[-1]
    untrimmed = {"synthesis.prune.to_length": False}
    unpruned = {**untrimmed, "synthesis.prune.loops": False}
    return [
        _imagining("several"),
        _imagining("several, not trimmed to the estimate", untrimmed),
        _imagining("several, no pruner", unpruned),
        _imagining(f"one long ({long})", {"denoiser.horizons": [long]}),
        _imagining(f"one long ({long}), no pruner", {"denoiser.horizons": [long], **unpruned}),
        _imagining(f"one short ({short}), chained", {"denoiser.horizons": [short]}),
        _imagining(f"one short ({short}), not chained", {"denoiser.horizons": [short], "synthesis.maximum_windows": 1}),
        _rlpd(),
    ]


def _transitions_or_trajectories(params: Params) -> list[Variant]:
    """`replay.synthetic_ratio` counts transitions, so all store the same number of them. There is no warm start, which counts trajectories."""
    cold = {"online.warm_start_gradient_steps": 0, "online.warm_start_trajectories": 1}
    longest = [_imagining(f"L = {length}", {**cold, "synthesis.maximum_length": length}) for length in (1, 8, 32, 128)]
    return [*longest, _rlpd(settings=cold)]


def _shift(params: Params) -> list[Variant]:
    """Reversed actuators, and the offline data and models of the task without them. The control is the same without adaptation; `originals only`
    imagines and warm starts anew as `on` does, but with the models as they were."""
    on = {**SHIFTED, **FOLLOWING}
    return [
        _imagining("on", on, control="off"),
        _imagining("off", {**SHIFTED, "adaptation.adapt_every": 0}, control="off"),
        _imagining("denoisers only", {**on, "adaptation.actuators": False}, control="off"),
        _imagining("originals only", {**on, "synthesis.original_share": 1.0}, control="off"),
        Variant(CONTROL, "rlpd", "off", SHIFTED),
    ]


def _adaptation(params: Params) -> list[Variant]:
    """On the task of the study `shift`. The control is the same without adaptation. A run has more episodes than the two that are kept, so it
    matters which these are."""
    common = {**SHIFTED, **FOLLOWING, "adaptation.capacity": 2}

    def variant(label: str, **settings: Any) -> Variant:
        return _imagining(label, {**common, **{f"adaptation.{name}": value for name, value in settings.items()}}, control="off")

    def original(share: float) -> Variant:
        return _imagining(f"original_share {share}", {**common, "synthesis.original_share": share}, control="off")

    return [
        variant("off", adapt_every=0),
        *(variant(name, importance=name) for name in ("td_error", "reward", "curiosity", "uniform")),
        *(variant(f"random_drop {chance}", random_drop=chance) for chance in (0.0, 0.5)),
        *(original(share) for share in (0.0, 0.5)),
        _rlpd(settings=SHIFTED),
    ]


def _ratio(params: Params) -> list[Variant]:
    return [*(_imagining(f"rho = {rho}", {"replay.synthetic_ratio": rho}) for rho in (0.0, 0.2, 0.5, 0.8, 0.95)), _rlpd()]


def _denoiser(params: Params) -> list[Variant]:
    """The backbones, each in a size that a CPU trains, with as many gradient steps as take the time of the default's."""
    default = params.denoiser.network
    sizes = {"mlp": (default.width, default.depth), "dit": (96, 2), "unet": (32, 3)}
    backbones: list[Variant] = []
    for name, (width, depth) in sizes.items():
        size = {"denoiser.network.backbone": name, "denoiser.network.width": width, "denoiser.network.depth": depth}
        steps = round(params.denoiser.train.gradient_steps / STEP_COSTS[name])
        backbones.append(_imagining(name, {**size, "denoiser.train.gradient_steps": steps}))
    return [*backbones, _rlpd()]


STUDIES = {
    study.name: study
    for study in (
        Study("arms", "ATraDiff, the control and the plain agent", ALL_MAZES, _arms),
        Study("controls", "the control with its data's own goals, imitating all or the better actions, and relabelled", ALL_MAZES, _controls),
        Study("plug-in", "SAC, TD3, REDQ, RLPD and DroQ, with and without ATraDiff", ("pointmaze-umaze",), _plug_in),
        Study("rewards", "where imagined rewards come from; nobody asks the environment", ALL_MAZES, _rewards),
        Study("metaworld", "Meta-World's success alone, offline data of six tasks mixed: ATraDiff and the control", tuple(METAWORLD), _metaworld),
        Study("short-episodes", "offline episodes of at most 64 steps: none connects start and goal", FAR_MAZES, _short_episodes),
        Study("little-data", "20,000 and 5,000 offline transitions, for ATraDiff and the control", FAR_MAZES, _little_data),
        Study("data-size", "1, 3, 10, 30 and 100 % of the offline episodes, for ATraDiff and the control", ONE_MAZE, _data_size),
        Study("imitation", "the actor imitates no, all or the better actions, of imagination or of the offline data", ALL_MAZES, _imitation),
        Study("lengths", "one long model, one short, several; with and without trimming and pruning", ONE_MAZE, _lengths),
        Study(
            "transitions-or-trajectories",
            "imagined trajectories of at most 1, 8, 32 and 128 transitions, at equal transitions",
            ONE_MAZE,
            _transitions_or_trajectories,
        ),
        Study("shift", "reversed actuators: adaptation on, off, in parts; control: off", ("pointmaze-umaze",), _shift),
        Study("adaptation", "the same shift: importance indicators, random drop, share of the original; control: off", ("pointmaze-umaze",), _adaptation),
        Study("ratio", "rho, the imagined share of what is stored, from 0 to 0.95", ONE_MAZE, _ratio),
        Study("denoiser", "mlp, dit and unet at equal seconds of training", ONE_MAZE, _denoiser),
    )
}


def find_study(name: str) -> Study:
    """The study of that name."""
    if name in STUDIES:
        return STUDIES[name]
    raise UserError(f"there is no study {name!r}{did_you_mean(name, STUDIES)}: `atradiff study list` shows them all")
