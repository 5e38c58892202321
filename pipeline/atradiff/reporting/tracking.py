"""Trackers: where a run's metrics go beside its own files."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from atradiff.errors import UserError

Metrics = Mapping[str, float]


class Tracker(Protocol):
    """What a run asks of a tracker. A new one is a class like those below, and a line in `TRACKERS`."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        """Begin or go on with the run `name`, whose folder is `folder`."""
        ...

    def log(self, metrics: Metrics, env_steps: int) -> None:
        """One evaluation."""
        ...

    def close(self) -> None:
        """Have everything written."""
        ...


class TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir runs`."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        del name, settings
        self._writer = _library("tensorboard").SummaryWriter(str(folder))

    def log(self, metrics: Metrics, env_steps: int) -> None:
        for metric, value in metrics.items():
            self._writer.add_scalar(metric, value, env_steps)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandB:
    """Weights & Biases; with `WANDB_MODE=offline` it writes into the run's folder and sends nothing."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        wandb = _library("wandb")
        self._run = wandb.init(project="atradiff", name=name, id=name, resume="allow", config=dict(settings), dir=str(folder))

    def log(self, metrics: Metrics, env_steps: int) -> None:
        self._run.log(dict(metrics), step=env_steps)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """trackio, which keeps its database on this machine: `trackio show`."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        del folder
        self._trackio = _library("trackio")
        self._trackio.init(project="atradiff", name=name, resume="allow", config=dict(settings))

    def log(self, metrics: Metrics, env_steps: int) -> None:
        self._trackio.log(dict(metrics), step=env_steps)

    def close(self) -> None:
        self._trackio.finish()


@contextmanager
def tracking(names: Sequence[str], folder: Path, name: str, settings: Mapping[str, Any]) -> Generator[list[Tracker]]:
    """The trackers of these names for one run; closed at the end, however it comes."""
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        for tracker in names:
            trackers.append(TRACKERS[tracker](folder, name, settings))
            stack.callback(trackers[-1].close)
        yield trackers


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB, "trackio": Trackio}


def require_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker whose library is not installed, before a run begins."""
    for name in names:
        _library(name)


def _library(tracker: str) -> Any:
    try:
        return importlib.import_module("torch.utils.tensorboard" if tracker == "tensorboard" else tracker)
    except ImportError as error:
        install = f"pip install -c constraints.txt -e '.[{tracker}]'"
        raise UserError(f"--track {tracker} needs the extra [{tracker}]: install it with `{install}`") from error
