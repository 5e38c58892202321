"""Runs beside one another: a curve for each arm and its settings, of one run or of several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from atradiff.errors import UserError
from atradiff.flows.run_folder import Metrics, RunFolder
from atradiff.params.load import read_text, values_in
from atradiff.params.render import to_settings
from atradiff.reporting.pictures import learning_curves
from atradiff.reporting.summary import arm_of, tell_apart, unit_of

OF_THE_BUDGET = ("task.name", "online.env_steps", "online.keep_checkpoints")
"""Settings in which runs may differ and still be seeds of one curve."""
MOST_CURVES = 8
_SETTINGS: dict[str, dict[str, Any]] = {}
"""By the text that they stand in: runs that differ in their seed have the same, and a text takes fifty milliseconds."""


class RunSoFar(NamedTuple):
    """What a curve is drawn from, read once. It depends, beside task, arm and seed, on its `settings`: the run's parameters, less those of how
    long and where, and what it began from."""

    about: dict[str, Any]
    settings: dict[str, Any]
    rows: list[Metrics]

    @classmethod
    def of(cls, folder: RunFolder) -> RunSoFar:
        """Raises `UserError` where the run cannot be read."""
        about, settings = folder.about(), _settings_of(folder.params_file)
        began = about.get("init_from")
        compared = {name: settings[name] for name in settings if name not in OF_THE_BUDGET} | {"init_from": Path(began).name if began else "nothing"}
        return cls(about, compared, folder.metrics())

    def is_like(self, other: RunSoFar) -> bool:
        """Whether both can stand in one picture: evaluated, of one task, counted in the same steps."""
        return bool(self.rows) and self.about["task"] == other.about["task"] and unit_of(self.rows[0]) == unit_of(other.rows[0])


def curves_of_arms(runs: Sequence[RunSoFar]) -> dict[str, list[list[Metrics]]]:
    """The metrics of the runs, by the arm and, where runs of an arm differ, by their settings; by the task, too, where it is not the same."""
    tasks = {run.about["task"] for run in runs}
    arms = [arm_of(run.about) if len(tasks) == 1 else f"{run.about['task']}, {arm_of(run.about)}" for run in runs]
    curves: dict[str, list[list[Metrics]]] = {}
    for run, label in zip(runs, tell_apart(arms, [run.settings for run in runs]), strict=True):
        curves.setdefault(label, []).append(run.rows)
    return curves


def arms_picture(folder: RunFolder) -> dict[Path, Callable[[Path], None]]:
    """This run beside the others in the folder that it lies in, of its task and counted in the same steps; nothing where there are none, or so
    many that nobody could tell their curves apart."""
    own = RunSoFar.of(folder)
    others = [] if not own.rows else [run for path in sorted(folder.path.parent.iterdir()) if path != folder.path and (run := _readable(path)) is not None]
    beside = [run for run in others if run.is_like(own)]
    curves = curves_of_arms([own, *beside])
    return {folder.arms_picture: lambda path: learning_curves(path, curves, own.about["task"])} if beside and len(curves) <= MOST_CURVES else {}


def _settings_of(params_file: Path) -> dict[str, Any]:
    """What is written there, by dotted keys."""
    text = read_text(params_file)
    if text not in _SETTINGS:
        _SETTINGS[text] = to_settings(values_in(text, params_file))
    return _SETTINGS[text]


def _readable(path: Path) -> RunSoFar | None:
    """The run in that folder, if there is one; one that is damaged or another version's is no matter of the run that asks."""
    if not (path / "run.json").is_file():
        return None
    try:
        return RunSoFar.of(RunFolder.open(path))
    except UserError:
        return None
