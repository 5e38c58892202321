"""An agent that learns from offline and imagined data alone, in plain Python; what it has learned is kept for online runs to go on from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from atradiff.agents.evaluate import Evaluator
from atradiff.agents.make import make_agent
from atradiff.data.environment import TaskEnvironment
from atradiff.diffusion.checkpoint import save_checkpoint
from atradiff.errors import UserError
from atradiff.flows.arms import arms_picture
from atradiff.flows.assemble import EVALUATION_SEED, all_trajectories, fit_to_data, make_buffer, offline_buffer
from atradiff.flows.bad_numbers import save_evidence
from atradiff.flows.checkpoints import Checkpoints
from atradiff.flows.run import Result, Run, require_same_data
from atradiff.flows.run_folder import AGENT_FILE, OFFLINE, RunFolder
from atradiff.flows.run_lock import RunLock
from atradiff.flows.views import DRAWN, draw_imagined, lengths_of
from atradiff.numbers import NotFinite
from atradiff.online.offline import Beside, OfflineTrainer, offline_plan, synthetic_transitions
from atradiff.online.plan import Phase
from atradiff.online.seeds import make_generator
from atradiff.online.symptoms import Symptom, find_symptoms
from atradiff.params.schema import Params
from atradiff.project.artifacts import load_split, load_synthesizer, offline_starts
from atradiff.project.layout import Layout
from atradiff.replay.mixed import MixedReplay, ReplayConfig
from atradiff.reporting.pictures import learning_curves
from atradiff.reporting.progress import Status
from atradiff.reporting.run_pictures import draw_lengths, draw_times
from atradiff.trajectory import Source


class OfflineRun(Run[OfflineTrainer]):
    """A run without env steps. At its end it leaves the agent, for online runs to go on from."""

    COMMAND = "offline run"
    UNIT = "gradient_steps"
    BROKEN_OFF = "imagine", "while it imagined"

    @classmethod
    def begin(cls, params: Params, seed: int, path: Path, layout: Layout, device: str) -> OfflineRun:
        """A new run in a new folder."""
        trainer = cls.new_trainer(params, seed, layout, device)
        folder = RunFolder.create(path, params, OFFLINE, seed, layout, agent=params.agent.algorithm)
        return cls(params, OFFLINE, seed, folder, trainer, cls.planned(params, None), Checkpoints(folder, cls.UNIT), RunLock(path))

    @staticmethod
    def new_trainer(params: Params, seed: int, layout: Layout, device: str) -> OfflineTrainer:
        """The trainer of a new run, of which nothing is written yet."""
        if params.agent.algorithm == "pex":
            raise UserError("pex begins with a policy learned offline: learn one with --agent iql, then `atradiff online run --init-from RUN --algorithm pex`")
        return build_offline_trainer(params, seed, layout, device)

    @staticmethod
    def with_steps(params: Params, steps: int) -> Params:
        """The parameters with another number of gradient steps."""
        return replace(params, offline=replace(params.offline, gradient_steps=steps))

    @staticmethod
    def planned(params: Params, after: Phase | None) -> list[Phase]:
        """The phases behind `after`."""
        return list(offline_plan(params.offline, after))

    @staticmethod
    def built(params: Params, about: dict[str, Any], layout: Layout, device: str, *, begins: bool) -> OfflineTrainer:
        """The trainer, on the data that the run began with."""
        del begins
        require_same_data(about, layout)
        return build_offline_trainer(params, about["seed"], layout, device)

    @property
    def steps(self) -> int:
        """The gradient steps that the run is to take."""
        return self.params.offline.gradient_steps

    @property
    def steps_done(self) -> int:
        """The gradient steps that it has taken."""
        return self.trainer.agent.gradient_steps

    def with_good_numbers(self, attempt: Callable[[], Result]) -> Result:
        """Bad numbers end the run: what led to them is stored data, and would lead there again."""
        try:
            return attempt()
        except NotFinite as error:
            evidence = save_evidence(self.folder, f"{self.steps_done:09d}", error, gradient_steps=self.steps_done)
            raise UserError(
                f"{error} at gradient step {self.steps_done:,}; what it arose in is in {evidence}: lower agent.critic_learning_rate, or train the "
                "models longer if they imagined it, and start anew"
            ) from error

    def status(self) -> Status:
        """What the run can tell at this moment."""
        replay, beside = self.trainer.replay, self.trainer.beside
        return Status(
            gradient_steps=self.steps_done,
            imagined=self.trainer.trajectories,
            share=len(replay.synthetic) / (len(replay.synthetic) + len(replay.offline or ())) if beside is not None else None,
            share_asked=self.params.offline.synthetic_ratio if beside is not None else None,
            adapts_in=None,
        )

    def symptoms(self) -> list[Symptom]:
        """The failure signatures that the run shows so far."""
        return find_symptoms(self.folder.metrics(), self.trainer.replay.largest_value(self.trainer.agent.config.discount))

    def pictures(self) -> dict[Path, Callable[[Path], None]]:
        """All that this run can show."""
        folder, imagined, beside = self.folder, self.trainer.imagined[-DRAWN:], self.trainer.beside
        pictures: dict[Path, Callable[[Path], None]] = {
            folder.learning_curve: lambda path: learning_curves(path, {f"{self.params.agent.algorithm}, seed {self.seed}": [folder.metrics()]})
        }
        pictures |= arms_picture(folder)
        if beside is not None and imagined:
            data = beside.starts.data
            real = [data.trajectory(episode) for episode in range(min(DRAWN, data.num_episodes))]
            titles = "Imagined, latest", "Real, offline"
            pictures[folder.imagined_picture] = lambda path: draw_imagined(path, imagined, real, beside.environment, titles)
            pictures[folder.lengths_picture] = lambda path: draw_lengths(path, lengths_of(real, beside.synthesizer.estimator))
        pictures[folder.times_picture] = lambda path: draw_times(path, folder.metrics())
        return pictures

    def finish(self) -> Path:
        """Leave the agent, draw the pictures and write the report; returns its path."""
        save_checkpoint(self.folder.path / AGENT_FILE, "agent", {"agent": self.trainer.agent.state_dict()})
        return super().finish()


def build_offline_trainer(params: Params, seed: int, layout: Layout, device: str) -> OfflineTrainer:
    """The trainer of one run, before its first gradient step. All offline transitions are learned from."""
    config = params.offline
    environment = TaskEnvironment(params.task.environment)
    split = load_split(layout, params)
    agent = make_agent(environment.spec, params.agent, make_generator(seed, "agent"), device)
    fit_to_data(agent, split, params, environment)
    offline = offline_buffer(all_trajectories(split, environment), params, environment, device)
    wanted = synthetic_transitions(config.synthetic_ratio, len(offline))
    longest = params.task.environment.max_episode_steps
    synthetic = make_buffer(wanted + longest + params.replay.n_step, params, environment, device, Source.IMAGINED)
    beside = None
    if wanted:
        kept, _ = split
        beside = Beside(wanted, load_synthesizer(layout, params, kept, device, environment), environment, offline_starts(params, kept, environment))
    online = make_buffer(params.replay.n_step + 1, params, environment, device, Source.ONLINE)  # stays empty
    shares = ReplayConfig(
        synthetic_ratio=config.synthetic_ratio, offline_ratio=1 - config.synthetic_ratio, synthetic_batch_ratio=config.synthetic_ratio
    )
    evaluator = Evaluator(params.task.environment, params.online.evaluation_episodes, EVALUATION_SEED)
    return OfflineTrainer(evaluator, agent, MixedReplay(shares, online, synthetic, offline), beside, config, seed)
