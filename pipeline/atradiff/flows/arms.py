"""Runs beside one another: a curve for each arm and its settings, of one run or of several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from atradiff.errors import UserError
from atradiff.flows.run_folder import Metrics, RunFolder
from atradiff.params.load import read_values
from atradiff.params.render import to_settings
from atradiff.reporting.pictures import learning_curves
from atradiff.reporting.summary import arm_of, tell_apart, unit_of

OF_THE_BUDGET = ("task.name", "online.env_steps", "online.keep_checkpoints")
"""Settings in which runs may differ and still be seeds of one curve."""
MOST_CURVES = 8


def curves_of_arms(folders: Sequence[RunFolder]) -> dict[str, list[list[Metrics]]]:
    """The metrics of the runs, by the arm and, where runs of an arm differ, by their settings; by the task, too, where it is not the same."""
    about = [folder.about() for folder in folders]
    tasks = {one["task"] for one in about}
    arms = [arm_of(one) if len(tasks) == 1 else f"{one['task']}, {arm_of(one)}" for one in about]
    curves: dict[str, list[list[Metrics]]] = {}
    for folder, label in zip(folders, tell_apart(arms, [settings_of(folder) for folder in folders]), strict=True):
        curves.setdefault(label, []).append(folder.metrics())
    return curves


def settings_of(folder: RunFolder) -> dict[str, Any]:
    """What a run's curve depends on beside its task, arm and seed: its parameters, less those of how long and where, and what it began from."""
    settings, began = to_settings(read_values(folder.params_file)), folder.about().get("init_from")
    return {name: settings[name] for name in settings if name not in OF_THE_BUDGET} | {"init_from": Path(began).name if began else "nothing"}


def arms_picture(folder: RunFolder) -> dict[Path, Callable[[Path], None]]:
    """This run beside the others in the folder that it lies in, of its task and counted in the same steps; nothing where there are none, or so
    many that nobody could tell their curves apart."""
    rows = folder.metrics()
    if not rows:
        return {}
    task, unit = folder.about()["task"], unit_of(rows[0])
    paths = sorted(folder.path.parent.iterdir(), key=lambda path: (path != folder.path, path))  # this run's arm first
    beside = [other for path in paths if (other := _readable(path)) is not None and _alike(other, task, unit)]
    curves = curves_of_arms(beside)
    return {folder.arms_picture: lambda path: learning_curves(path, curves, task)} if len(beside) > 1 and len(curves) <= MOST_CURVES else {}


def _readable(path: Path) -> RunFolder | None:
    """The run in that folder, if there is one; one that is damaged or another version's is no matter of the run that asks."""
    if not (path / "run.json").is_file():
        return None
    try:
        folder = RunFolder.open(path)
        folder.metrics()
        settings_of(folder)
    except UserError:
        return None
    return folder


def _alike(other: RunFolder, task: str, unit: str) -> bool:
    rows = other.metrics()
    return bool(rows) and other.about()["task"] == task and unit_of(rows[0]) == unit
