"""What every run is in plain Python, online or offline: a trainer, a folder, and the phases that are still to be done."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

from atradiff.errors import Stopped, UserError
from atradiff.flows.checkpoints import Checkpoints
from atradiff.flows.run_folder import Metrics, RunFolder, provenance, told, write_whole
from atradiff.flows.run_lock import RunLock
from atradiff.online.adaptation import Adapted
from atradiff.online.clock import Clock
from atradiff.online.plan import Phase, PhaseKind
from atradiff.online.symptoms import Symptom
from atradiff.params.render import render_yaml
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from atradiff.replay.mixed import MixedReplay
from atradiff.reporting.progress import Status
from atradiff.reporting.report import write_report
from atradiff.reporting.summary import in_words
from atradiff.synthesis.synthesizer import Imagined
from atradiff.untrusted import FOREIGN_ERRORS

Signal = Callable[[], signal.Signals | None]
"""Whether, and by what, the run is asked to stop."""


class RunTrainer(Protocol):
    """What teaches the agent of a run."""

    clock: Clock
    imagined: list[Imagined]
    replay: MixedReplay

    def run_phase(self, phase: Phase, on_step: Callable[[int], None]) -> Metrics | None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> bool: ...


T = TypeVar("T", bound=RunTrainer)
Result = TypeVar("Result")


class Reopened(NamedTuple, Generic[T]):
    """What a run goes on with: `state` is its last checkpoint's, None before the first."""

    params: Params
    trainer: T
    phases: list[Phase]
    checkpoints: Checkpoints
    state: dict[str, Any] | None


@dataclass(frozen=True)
class Run(ABC, Generic[T]):
    """A run, new or resumed, which nobody else may carry out meanwhile; `phases` are those still to be done."""

    params: Params
    arm: str
    seed: int
    folder: RunFolder
    trainer: T
    phases: list[Phase]
    checkpoints: Checkpoints
    lock: RunLock

    COMMAND: ClassVar[str]
    """The command that carries such runs out, without the program's name."""
    UNIT: ClassVar[str]
    """What its steps are, as a metric's name."""
    BROKEN_OFF: ClassVar[tuple[PhaseKind, str]]
    """The phase that a stop throws away, as the run can begin again just as well, and when that is."""

    # --- what an online and an offline run have of their own -------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def with_steps(params: Params, steps: int) -> Params:
        """The parameters with another budget."""

    @staticmethod
    @abstractmethod
    def planned(params: Params, after: Phase | None) -> list[Phase]:
        """The phases behind `after`."""

    @staticmethod
    @abstractmethod
    def built(params: Params, about: dict[str, Any], layout: Layout, device: str, *, begins: bool) -> T:
        """The trainer of the run that run.json says all `about`; where it `begins`, no checkpoint tells what its agent goes on from."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """The steps that the run is to take."""

    @property
    @abstractmethod
    def steps_done(self) -> int:
        """Those that it has taken."""

    @abstractmethod
    def with_good_numbers(self, attempt: Callable[[], Result]) -> Result:
        """Have it done; what is to be done about NaN and infinity."""

    @abstractmethod
    def status(self) -> Status:
        """What the run can tell at this moment."""

    @abstractmethod
    def symptoms(self) -> list[Symptom]:
        """The failure signatures that the run shows so far."""

    @abstractmethod
    def pictures(self) -> dict[Path, Callable[[Path], None]]:
        """What there is to be drawn, and how."""

    def adaptations(self) -> list[Adapted]:
        """Those of the last adaptation."""
        return []

    # --- what they share -------------------------------------------------------------------------------------------------

    def do(self, phase: Phase, on_step: Callable[[int], None], asked: Signal = lambda: None) -> Metrics | None:
        """One phase. An evaluation is written down and returned; a checkpoint is written.

        A signal that is `asked` about ends collecting and learning at the next step, and every other phase at its end; then there is a checkpoint,
        and `Stopped` is raised. Only what is `BROKEN_OFF` leaves none.
        """
        kind, when = self.BROKEN_OFF
        reached, begun_in_vain = phase, False

        def heard(steps: int) -> None:
            nonlocal reached, begun_in_vain
            on_step(steps)
            if asked() is not None and (phase.kind == kind or steps < phase.steps):
                reached, begun_in_vain = Phase(phase.kind, steps), phase.kind == kind
                raise _Cut

        metrics = None
        with suppress(_Cut):
            metrics = self.carry_out(phase, heard)
        if (received := asked()) is None:
            return metrics
        if not begun_in_vain and phase.kind != "checkpoint":
            self.with_good_numbers(lambda: self.checkpoint(reached))
        where = when if begun_in_vain else f"at {in_words(self.UNIT)[:-1]} {self.steps_done:,} with everything kept"
        raise Stopped(received, f"the run was stopped {where}: `atradiff {self.COMMAND} --resume --run-dir {self.folder.path}` goes on")

    def carry_out(self, phase: Phase, on_step: Callable[[int], None]) -> Metrics | None:
        """One phase to its end."""
        return self.with_good_numbers(lambda: self._try(phase, on_step))

    def _try(self, phase: Phase, on_step: Callable[[int], None]) -> Metrics | None:
        if phase.kind == "checkpoint":
            self.checkpoint(phase)
            return None
        metrics = self.trainer.run_phase(phase, on_step)
        if metrics is not None:
            self.folder.append_metrics(metrics)
        return metrics

    def checkpoint(self, after: Phase) -> None:
        """Keep everything that the run is `after` that phase."""
        rows = self.folder.metrics()
        evaluation = rows[-1] if after.kind in ("evaluate", "checkpoint") and rows else None
        state = {**self.trainer.state_dict(), "after": list(after), "metrics": len(rows)}
        self.checkpoints.write(after.steps, state, evaluation, self.params.online.keep_checkpoints)

    @classmethod
    def resume(cls, path: Path, steps: int | None, layout: Layout, device: str, warn: Callable[[str], None]) -> Self:
        """The run in `path` from its newest checkpoint that is whole, or from its beginning if it has not come to one; `steps` changes its
        budget, `warn` hears of damaged checkpoints and of whatever else does not go on as it was. A run that has done its steps and only
        lacks its report has no phases left."""
        folder = RunFolder.open(path)
        with ExitStack() as otherwise:
            lock = RunLock(path)
            otherwise.callback(lock.release)
            params, trainer, phases, checkpoints, state = cls.reopened(folder, steps, layout, device, warn)
            if state is not None and not _restore(trainer, state, path):
                warn("the environment does not repeat itself: the open episode is left, and the run is not what it would have been without a stop")
            with told(f"the run folder {path}", "mend that, and go on with --resume"):
                write_whole(folder.params_file, render_yaml(params))
            folder.keep_metrics(int(state["metrics"]) if state is not None else 0)
            otherwise.pop_all()
        about = folder.about()
        return cls(params, about["arm"], about["seed"], folder, trainer, phases, checkpoints, lock)

    @classmethod
    def still_to_do(cls, path: Path, steps: int | None, layout: Layout, device: str, warn: Callable[[str], None]) -> list[Phase]:
        """The phases that `resume` would carry out; refused where it would be, and nothing is written."""
        folder = RunFolder.open(path)
        RunLock(path).release()
        return cls.reopened(folder, steps, layout, device, warn).phases

    @classmethod
    def reopened(cls, folder: RunFolder, steps: int | None, layout: Layout, device: str, warn: Callable[[str], None]) -> Reopened[T]:
        """All that resuming needs, and refuses, before anything is written."""
        params = folder.params()
        if steps is not None:
            params = cls.with_steps(params, steps)
        checkpoints = Checkpoints(folder, cls.UNIT)
        state = checkpoints.latest(warn)
        phases = cls.planned(params, Phase(*state["after"]) if state is not None else None)
        if not phases and folder.report.exists():
            done, option = cls.planned(params, None)[-1].steps, cls.UNIT.replace("_", "-")
            raise UserError(f"{folder.path} has done its {done} {in_words(cls.UNIT)}: give --{option} a larger number to go on")
        trainer = cls.built(params, folder.about(), layout, device, begins=state is None)
        return Reopened(params, trainer, phases, checkpoints, state)

    def draw(self) -> list[Path]:
        """The pictures of the run so far, one path each; nothing is drawn that shows the last evaluation already."""
        pictures, metrics = self.pictures(), self.folder.metrics_file
        if not all(path.exists() and path.stat().st_mtime_ns >= metrics.stat().st_mtime_ns for path in pictures):
            for path, draw in pictures.items():
                with told(f"the picture {path}", "mend that, and go on with --resume"):
                    draw(path)
        return list(pictures)

    def finish(self) -> Path:
        """Draw the pictures and write the report; returns its path."""
        pictures = self.draw()
        with told(f"the report {self.folder.report}", "mend that, and let --resume write it"):
            write_report(
                self.folder.report,
                name=self.folder.name,
                about=self.folder.about(),
                params_yaml=self.folder.params_file.read_text(),
                rows=self.folder.metrics(),
                pictures=pictures,
                imagined=self.trainer.imagined,
                adaptations=self.adaptations(),
                symptoms=self.symptoms(),
            )
        return self.folder.report


class _Cut(Exception):
    """A phase ends here, between two steps."""


def require_same_data(about: dict[str, Any], layout: Layout) -> None:
    """A run that learned from one dataset cannot go on with another."""
    begun, now = about["data_sha256"], provenance(layout)["data_sha256"]
    if begun != now:
        raise UserError(
            f"the offline data {about['dataset']} has changed since the run began (fingerprint {str(begun)[:12]}, now {str(now)[:12]}): bring it back, "
            "or start the run anew"
        )


def _restore(trainer: RunTrainer, state: dict[str, Any], path: Path) -> bool:
    """The trainer's `load_state_dict`, with a sentence where the state is not one of this run's: checksums tell of damage, and not of strangers."""
    try:
        return trainer.load_state_dict(state)
    except FOREIGN_ERRORS as error:
        raise UserError(f"the newest checkpoint in {path} does not fit its params.yaml ({type(error).__name__}): start the run anew") from error
