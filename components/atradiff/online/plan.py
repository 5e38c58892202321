"""What an online run does, and in which order: its budget, its rhythm, and the phases that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, get_args

from annotated_types import Ge, Le
from typing_extensions import Doc

from atradiff.data.shift import ShiftConfig


@dataclass(frozen=True)
class OnlineConfig:
    """The online run: its budget and its rhythm."""

    env_steps: Annotated[int, Ge(1), Doc("Real environment steps of the run.")] = 4_000
    evaluate_every: Annotated[int, Ge(1), Doc("Env steps between evaluations; a checkpoint follows each.")] = 1_000
    evaluation_episodes: Annotated[int, Ge(1), Doc("Episodes of one evaluation, with fixed seeds.")] = 10
    warm_start_gradient_steps: Annotated[int, Ge(0), Doc("Gradient steps on imagination (or, for rlpd, on offline data) before the first env step.")] = 4_000
    warm_start_trajectories: Annotated[int, Ge(1), Doc("Trajectories imagined for the warm start.")] = 1_024
    warm_start_offline_share: Annotated[
        float, Ge(0), Le(1), Doc("Share of these that begin in states of the offline data; the others in reset states.")
    ] = 0.5
    warm_start_goals: Annotated[
        Literal["task", "own"],
        Doc("What those in offline states aim at: the task at hand, or the goal of the state's own episode; of several tasks, of this one's."),
    ] = "task"
    update_after_env_steps: Annotated[int, Ge(1), Doc("Env steps before the online updates begin.")] = 100
    keep_checkpoints: Annotated[int, Ge(1), Doc("Checkpoints kept, the newest ones; the one of the best evaluation is kept beside them.")] = 3
    num_envs: Annotated[
        int, Ge(1), Doc("Environments that the agent acts in side by side; a step in each is an env step, and is followed by its own updates.")
    ] = 1
    on_bad_numbers: Annotated[
        Literal["stop", "roll_back"], Doc("What NaN or infinity does: end the run, or give it back its last checkpoint's networks and go on.")
    ] = "stop"
    shift: ShiftConfig = field(default_factory=ShiftConfig)


PhaseKind = Literal["warm_start", "imagine", "collect_and_update", "learn", "adapt", "evaluate", "checkpoint"]
KINDS: tuple[PhaseKind, ...] = get_args(PhaseKind)  # in the order in which they come at one step


class Phase(NamedTuple):
    """One part of the plan: what to do, and the step it ends at, an env step online and a gradient step offline."""

    kind: PhaseKind
    steps: int

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in any plan; later phases have greater places."""
        return self.steps, KINDS.index(self.kind)


def plan(config: OnlineConfig, adapt_every: int, after: Phase | None = None) -> Iterator[Phase]:
    """The phases of a run: rounds of collect-and-update, adapt, evaluate, checkpoint; those behind `after`, where a resumed run goes on.

    Where collecting was stopped before its end, `after` says at which env step.
    """
    return behind(after, _whole_plan(config, adapt_every))


def behind(after: Phase | None, phases: Iterator[Phase]) -> Iterator[Phase]:
    """Those of the phases that come later; all where there is nothing behind which to go on."""
    return (phase for phase in phases if after is None or phase.place > after.place)


def _whole_plan(config: OnlineConfig, adapt_every: int) -> Iterator[Phase]:
    yield Phase("warm_start", 0)
    yield Phase("evaluate", 0)
    yield Phase("checkpoint", 0)
    here = 0
    while here < config.env_steps:
        stops = [config.env_steps, (here // config.evaluate_every + 1) * config.evaluate_every]
        if adapt_every > 0:
            stops.append((here // adapt_every + 1) * adapt_every)
        here = min(stops)
        yield Phase("collect_and_update", here)
        if adapt_every > 0 and here % adapt_every == 0:
            yield Phase("adapt", here)
        if here % config.evaluate_every == 0 or here == config.env_steps:
            yield Phase("evaluate", here)
            yield Phase("checkpoint", here)
