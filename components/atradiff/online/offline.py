"""Before the first env step: an agent learns from offline data, with imagined trajectories beside it, and takes no step at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import Tensor
from typing_extensions import Doc

from atradiff.agents.actor_critic import ActorCritic
from atradiff.agents.evaluate import Evaluator
from atradiff.data.environment import TaskEnvironment
from atradiff.numbers import require_finite_state
from atradiff.online.clock import Clock
from atradiff.online.learning import learn
from atradiff.online.metrics import KEPT_FOR_PICTURES, Told, imagination_metrics
from atradiff.online.plan import Phase, behind
from atradiff.online.seeds import make_generator
from atradiff.online.starts import OfflineStarts, beforehand
from atradiff.replay.buffer import Buffer
from atradiff.replay.mixed import MixedReplay
from atradiff.synthesis.synthesizer import Imagined, Synthesizer, imagined_state, load_imagined

IMAGINED_AT_ONCE = 256
TIMERS = ("synthesis", "update", "evaluate")


@dataclass(frozen=True)
class OfflineConfig:
    """Learning without env steps, by `atradiff offline run`."""

    gradient_steps: Annotated[int, Ge(1), Doc("Gradient steps of the critics.")] = 20_000
    evaluate_every: Annotated[int, Ge(1), Doc("Gradient steps between evaluations.")] = 5_000
    synthetic_ratio: Annotated[float, Ge(0), Lt(1), Doc("Share of the stored transitions, and of every batch, that are imagined; 0 is the data alone.")] = 0.5


def synthetic_transitions(synthetic_ratio: float, offline_transitions: int) -> int:
    """How many imagined transitions make up the share beside so many real ones."""
    return math.ceil(synthetic_ratio / (1 - synthetic_ratio) * offline_transitions)


def offline_plan(config: OfflineConfig, after: Phase | None = None) -> Iterator[Phase]:
    """The phases of a run without env steps: imagine, then rounds of learn, evaluate, checkpoint; those behind `after`."""
    return behind(after, _whole_plan(config))


def _whole_plan(config: OfflineConfig) -> Iterator[Phase]:
    if config.synthetic_ratio > 0:
        yield Phase("imagine", 0)
        yield Phase("checkpoint", 0)
    for until in [*range(config.evaluate_every, config.gradient_steps, config.evaluate_every), config.gradient_steps]:
        yield Phase("learn", until)
        yield Phase("evaluate", until)
        yield Phase("checkpoint", until)


@dataclass(frozen=True)
class Beside:
    """What is imagined beside stored data: `transitions` of them, with the tasks of resets.

    As in the warm start, a share of the trajectories begins in offline states, the others where episodes begin. No env step is taken.
    """

    transitions: int
    synthesizer: Synthesizer
    environment: TaskEnvironment
    starts: OfflineStarts

    def __call__(self, buffer: Buffer, seed: int, listen: Callable[[Imagined], None]) -> None:
        """Imagine trajectories into the buffer until it has been given so many transitions; `listen` hears of each trajectory."""
        generator, resets = make_generator(seed, "synthesis"), 0
        while buffer.added < self.transitions:
            needed = self.starts.resets(IMAGINED_AT_ONCE)
            drawn = beforehand(self.environment, seed, needed, resets)
            resets += needed
            states, tasks = self.starts(IMAGINED_AT_ONCE, *drawn, generator)
            order = torch.randperm(len(states), generator=generator).numpy()  # the last batch may not be needed whole
            for imagined in self.synthesizer(states[order], tasks[order], generator):
                if buffer.added < self.transitions:
                    buffer.add_trajectory(imagined.trajectory)
                    listen(imagined)


class OfflineTrainer:
    """Teaches an agent from a replay that holds offline transitions and, with `beside`, imagined ones. Every draw comes from a generator of the seed."""

    def __init__(
        self, evaluator: Evaluator, agent: ActorCritic, replay: MixedReplay, beside: Beside | None, config: OfflineConfig, seed: int
    ) -> None:
        self.evaluator = evaluator
        self.agent = agent
        self.replay = replay
        self.beside = beside
        self.config = config
        self.seed = seed
        self.clock = Clock(TIMERS)
        self.imagined: list[Imagined] = []
        self.trajectories = 0
        self._generators = {name: make_generator(seed, name, agent.device) for name in ("replay", "update")}
        self._logs = dict[str, Tensor]()

    def run_phase(self, phase: Phase, on_step: Callable[[int], None]) -> dict[str, Any] | None:
        """Do one phase of the plan (all but the checkpoint, which is the caller's); an evaluation returns its metrics.

        `on_step` hears of every update, and while it imagines of every trajectory, how many gradient steps were taken. It may raise to stop the run
        there: between two updates `state_dict` holds all that there is, among the imagined trajectories it does not.
        """
        match phase.kind:
            case "imagine":
                self.imagine(on_step)
            case "learn":
                self.learn(phase.steps, on_step)
            case "evaluate":
                return self.evaluate()
            case _:
                raise ValueError(f"{phase.kind} is none of the trainer's phases: a checkpoint is written by the caller, from state_dict()")
        return None

    def imagine(self, on_step: Callable[[int], None]) -> None:
        """Imagine all that is to be learned from."""
        if self.beside is None:
            return

        def heard(imagined: Imagined) -> None:
            self.trajectories += 1
            self.imagined = [*self.imagined, imagined][-KEPT_FOR_PICTURES:]
            on_step(self.agent.gradient_steps)

        with self.clock.timed("synthesis"):
            self.beside(self.replay.synthetic, self.seed, heard)

    def learn(self, until: int, on_step: Callable[[int], None]) -> None:
        """Update the agent until its critics have taken so many gradient steps; `on_step` hears how many they have taken.

        Raises `NotFinite` where a loss is NaN or infinite, or a network has come to hold such numbers.
        """
        agent = self.agent.config
        with self.clock.timed("update"):
            while self.agent.gradient_steps < until:
                batch = self.replay.sample(agent.batch_size * agent.utd_ratio, self._generators["replay"])
                self._logs = learn(self.agent, batch, self._generators["update"])
                on_step(min(self.agent.gradient_steps, until))
        require_finite_state("the agent", self.agent.state_dict())

    def evaluate(self) -> dict[str, Any]:
        """Evaluate, and tell what is worth a line of metrics."""
        with self.clock.timed("evaluate"):
            result = self.evaluator(self.agent)
        stored, synthetic = len(self.replay.offline or ()), len(self.replay.synthetic)
        told: list[Told] = [(len(one.trajectory), one.estimated_length, one.trajectory.terminated) for one in self.imagined]
        return {
            "gradient_steps": self.agent.gradient_steps,
            **result.metrics(),
            "replay/offline": stored,
            "replay/synthetic": synthetic,
            "replay/synthetic_share": synthetic / (stored + synthetic),
            "synthesis/trajectories": self.trajectories,
            "synthesis/mean_length": synthetic / self.trajectories if self.trajectories else 0.0,
            **imagination_metrics(told, ends=self.beside is not None and self.beside.starts.ends),
            **{f"agent/{name}": float(value) for name, value in self._logs.items()},
            **self.clock.metrics(),
        }

    # --- checkpoints ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that it takes to go on as if there had been no stop, between any two updates; the stored transitions are read again.

        Raises `NotFinite` where a network has come to hold NaN or infinity.
        """
        state: dict[str, Any] = {
            "agent": self.agent.state_dict(),
            "agent_logs": self._logs,
            "replay": self.replay.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self._generators.items()},
            "imagined": [imagined_state(one) for one in self.imagined],
            "trajectories": self.trajectories,
            **self.clock.state_dict(),
        }
        require_finite_state("agent", state["agent"])
        return state

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Go on from `state`; always to the same run, hence True."""
        self.agent.load_state_dict(state["agent"])
        self._logs = dict(state["agent_logs"])
        self.replay.load_state_dict(state["replay"])
        for name, generator in self._generators.items():
            generator.set_state(state["generators"][name])
        self.imagined = [load_imagined(one) for one in state["imagined"]]
        self.trajectories = int(state["trajectories"])
        self.clock.load_state_dict(state)
        return True
