"""One online run in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atradiff.errors import UserError
from atradiff.flows.arms import arms_picture
from atradiff.flows.assemble import Arm, build_trainer, params_of_arm, take_over_from
from atradiff.flows.bad_numbers import meet_bad_numbers
from atradiff.flows.checkpoints import Checkpoints
from atradiff.flows.profile import Profile
from atradiff.flows.run import Result, Run, require_same_data
from atradiff.flows.run_folder import Metrics, RunFolder
from atradiff.flows.run_lock import RunLock
from atradiff.flows.views import DRAWN, draw_imagined, lengths_of
from atradiff.numbers import NotFinite
from atradiff.online.adaptation import Adapted
from atradiff.online.plan import Phase, plan
from atradiff.online.symptoms import Symptom, find_symptoms
from atradiff.online.trainer import Trainer
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from atradiff.reporting.pictures import learning_curves
from atradiff.reporting.progress import Status
from atradiff.reporting.run_pictures import draw_distances, draw_lengths, draw_sources, draw_times


@dataclass(frozen=True)
class OnlineRun(Run[Trainer]):
    """With a `profile` it records where its time goes."""

    profile: Profile | None = None

    COMMAND = "online run"
    UNIT = "env_steps"
    BROKEN_OFF = "warm_start", "in its warm start"

    @classmethod
    def begin(
        cls, params: Params, arm: Arm, seed: int, path: Path, layout: Layout, device: str, init_from: RunFolder | None = None
    ) -> OnlineRun:
        """A new run in a new folder; its agent goes on from what the offline run `init_from` has learned, if there is one."""
        params = params_of_arm(params, arm)
        trainer = cls.new_trainer(params, arm, seed, layout, device, init_from)
        origin = {"init_from": str(init_from.path)} if init_from is not None else {}
        folder = RunFolder.create(path, params, arm, seed, layout, **origin)
        return cls(params, arm, seed, folder, trainer, cls.planned(params, None), Checkpoints(folder), RunLock(path))

    @staticmethod
    def new_trainer(params: Params, arm: Arm, seed: int, layout: Layout, device: str, init_from: RunFolder | None = None) -> Trainer:
        """The trainer of a new run, of which nothing is written yet."""
        if init_from is None and params.agent.algorithm == "pex":
            raise UserError("pex goes on from a policy learned offline: learn one by `atradiff offline run --agent iql`, and name it by --init-from")
        trainer = build_trainer(params, arm, seed, layout, device)
        if init_from is not None:
            take_over_from(trainer.agent, init_from)
        return trainer

    @staticmethod
    def with_steps(params: Params, steps: int) -> Params:
        """The parameters with another number of env steps."""
        return replace(params, online=replace(params.online, env_steps=steps))

    @staticmethod
    def planned(params: Params, after: Phase | None) -> list[Phase]:
        """The phases behind `after`."""
        return list(plan(params.online, params.adaptation.adapt_every, after))

    @staticmethod
    def built(params: Params, about: dict[str, Any], layout: Layout, device: str, *, begins: bool) -> Trainer:
        """The trainer, on the data that the run began with."""
        trainer = build_trainer(params, about["arm"], about["seed"], layout, device)
        if trainer.imagination is not None or trainer.replay.offline is not None:
            require_same_data(about, layout)
        if begins and "init_from" in about:
            take_over_from(trainer.agent, RunFolder.open(Path(about["init_from"])))
        return trainer

    def profiled(self) -> OnlineRun:
        """The same run with a profile."""
        return replace(self, profile=Profile(self.trainer, self.steps))

    @property
    def steps(self) -> int:
        """The env steps that the run is to take."""
        return self.params.online.env_steps

    @property
    def steps_done(self) -> int:
        """The env steps that it has taken."""
        return self.trainer.env_steps

    def carry_out(self, phase: Phase, on_step: Callable[[int], None]) -> Metrics | None:
        """One phase to its end, profiled where that is asked for."""
        if self.profile is None:
            return super().carry_out(phase, on_step)
        with self.profile.phase(phase):
            return super().carry_out(phase, self.profile.listening(on_step))

    def with_good_numbers(self, attempt: Callable[[], Result]) -> Result:
        """Until it is done: bad numbers end the run, or only cost it what it learned since its last checkpoint."""
        while True:
            try:
                return attempt()
            except NotFinite as error:
                meet_bad_numbers(self.folder, self.checkpoints, self.trainer, error)

    def status(self) -> Status:
        """What the run can tell at this moment."""
        trainer, every, left = self.trainer, self.params.adaptation.adapt_every, self.steps - self.steps_done
        imagines = trainer.imagination is not None
        until = every - trainer.env_steps % every if every > 0 else None
        return Status(
            gradient_steps=trainer.agent.gradient_steps,
            imagined=trainer.trigger.trajectories,
            share=trainer.replay.synthetic_share if imagines else None,
            share_asked=self.params.replay.synthetic_ratio if imagines else None,
            adapts_in=until if until is not None and until <= left else None,
        )

    def symptoms(self) -> list[Symptom]:
        """The failure signatures that the run shows so far."""
        trainer = self.trainer
        return find_symptoms(self.folder.metrics(), trainer.replay.largest_value(trainer.agent.config.discount), trainer.rolled_back)

    def adaptations(self) -> list[Adapted]:
        """Those of the last adaptation."""
        return self.trainer.adaptations

    def pictures(self) -> dict[Path, Callable[[Path], None]]:
        """All that this run can show."""
        trainer, folder = self.trainer, self.folder
        pictures: dict[Path, Callable[[Path], None]] = {
            folder.learning_curve: lambda path: learning_curves(path, {f"{self.arm}, seed {self.seed}": [folder.metrics()]})
        }
        pictures |= arms_picture(folder)
        if trainer.imagination is not None:
            estimator, real = trainer.imagination.synthesizer.estimator, trainer.imagination.picked.trajectories[-DRAWN:]
            if trainer.imagined:
                titles = "Imagined, latest", "Real, picked for adaptation"
                pictures[folder.imagined_picture] = lambda path: draw_imagined(path, trainer.imagined[-DRAWN:], real, trainer.environment, titles)
            pictures[folder.sources_picture] = lambda path: draw_sources(path, folder.metrics(), self.params.replay.synthetic_ratio)
            if real:
                pictures[folder.lengths_picture] = lambda path: draw_lengths(path, lengths_of(real, estimator))
        if trainer.distances:
            pictures[folder.distances_picture] = lambda path: draw_distances(path, trainer.distances)
        pictures[folder.times_picture] = lambda path: draw_times(path, folder.metrics())
        return pictures
