"""From the agent's current states to imagined trajectories (ATraDiff's task-conditioned synthesis)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Le
from typing_extensions import Doc

from atradiff.data.hindsight import goal_distance
from atradiff.data.relabel import RewardArm
from atradiff.diffusion.denoiser import Denoiser
from atradiff.diffusion.sampler import SamplerConfig
from atradiff.numbers import require_finite
from atradiff.synthesis.actuators import Actuators
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.length_estimator import QUANTILES, LengthEstimator
from atradiff.synthesis.prune import PruneConfig, Pruned, prune
from atradiff.synthesis.reward_model import RewardModel, RewardModelConfig
from atradiff.synthesis.waypoints import WaypointConfig, Waypoints
from atradiff.trajectory import Array, BoolArray, IntArray, Trajectory, load_trajectory, trajectory_state


@dataclass(frozen=True)
class SynthesisConfig:
    """How trajectories are imagined."""

    reward: Annotated[
        Literal["generated", "goal", "learned", "oracle"],
        Doc(
            "Rewards of imagined steps: the denoiser's own channels, success within the radius at which offline episodes succeeded, a learned "
            "model, or the environment's reward function."
        ),
    ] = "generated"
    length_quantile: Annotated[float, Doc("Quantile of the remaining steps that a trajectory must cover: 0.1, 0.5 or 0.9.")] = 0.9
    maximum_length: Annotated[int | None, Ge(1), Doc("Transitions kept of an imagined trajectory at most; null keeps all.")] = None
    maximum_windows: Annotated[int, Ge(1), Doc("Windows chained at most where the longest horizon does not cover the length; 1 is no chaining.")] = 24
    waypoints: WaypointConfig = field(default_factory=WaypointConfig)
    batch_size: Annotated[int, Ge(1), Doc("Requests gathered before they are served together.")] = 16
    original_share: Annotated[float, Ge(0), Le(1), Doc("Share of trajectories imagined by the original denoisers, once adapted ones exist.")] = 0.2
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    reward_model: RewardModelConfig = field(default_factory=RewardModelConfig)


class Window(NamedTuple):
    """What is used of one sample of the denoiser of `horizon` rows, in the units of the task, T transitions: states `[T + 1, O]`, the same
    normalised `[T + 1, O]`, actions `[T, A]`, rewards `[T]`; whether the last of them ended the task, and whether the window stops there
    before its horizon: then, at a waypoint, or where the denoiser believes in an end that the reward arm denies. `behind [H - 1 - T, O]`
    are the states that were generated after the stop."""

    horizon: int
    states: Array
    normalised: Array
    actions: Array
    rewards: Array
    ended: bool
    stopped: bool
    behind: Array

    def translated(self, actuators: Actuators | None) -> Window:
        """The same with the actions that have the same effect now; None leaves them."""
        return self if actuators is None else self._replace(actions=actuators.to_now(self.actions))


class Imagined(NamedTuple):
    """One imagined trajectory with how it came about: the horizons of the windows that were chained, the estimated length, what the
    pruner kept, how many rows were generated for it, and the states `[G, O]` among which `pruned.rows` are: the joined windows, and what the
    last one had behind its stop."""

    trajectory: Trajectory
    horizons: tuple[int, ...]
    estimated_length: float
    pruned: Pruned
    generated_rows: int
    generated: Array

    def removed(self) -> list[Array]:
        """The stretches of states `[R, O]` that were taken away, each from the kept state before to the kept state behind it, for pictures."""
        kept = self.pruned.rows
        loops = [self.generated[a : b + 1] for a, b in pairwise(kept) if b - a > 1]
        tail = self.generated[kept[-1] :]
        return [*loops, tail] if len(tail) > 1 else loops


def imagined_state(one: Imagined) -> dict[str, Any]:
    """An imagined trajectory as plain tensors and numbers, for a checkpoint."""
    pruned = one.pruned
    return {
        "trajectory": trajectory_state(one.trajectory),
        "horizons": [int(horizon) for horizon in one.horizons],
        "estimated_length": float(one.estimated_length),
        "pruned": [torch.from_numpy(pruned.rows.copy()), int(pruned.cut), int(pruned.loops), int(pruned.trimmed)],
        "generated_rows": int(one.generated_rows),
        "generated": torch.from_numpy(one.generated.copy()),
    }


def load_imagined(state: dict[str, Any]) -> Imagined:
    """The inverse of `imagined_state`."""
    rows, *counts = state["pruned"]
    numbers = state["estimated_length"], Pruned(rows.numpy(), *counts), state["generated_rows"]
    return Imagined(load_trajectory(state["trajectory"]), tuple(state["horizons"]), *numbers, state["generated"].numpy())


class Synthesizer:
    """Estimates the length, picks the shortest covering horizon, samples one batch a horizon, and prunes.

    Where the longest horizon does not cover the length, the trajectory goes on from the window's last state, whose length is
    estimated anew (ours): windows are chained until one says that the task ends, or covers what is left. With `waypoints` each window
    aims at a goal on the way that is within its reach. No trajectory is longer than `time_limit`: an episode would be truncated there.

    `reward_arm` is None for generated rewards, else the learned model's or the environment's function. Where `actuators` have changed, all
    imagined actions are translated, the originals' too: a motor that has been reversed is nothing to hold on to. Where nothing that the models
    learned from `ends` the task, they know of no end, and none that they write is believed.
    """

    def __init__(
        self,
        bank: DenoiserBank,
        estimator: LengthEstimator,
        config: SynthesisConfig,
        epsilon: float,
        reward_arm: RewardArm | None = None,
        waypoints: Waypoints | None = None,
        time_limit: int | None = None,
        ends: bool = True,
    ) -> None:
        self.bank = bank
        self.estimator = estimator
        self.config = config
        self.epsilon = epsilon
        self.reward_arm = reward_arm
        self.waypoints = waypoints
        limits = [limit for limit in (time_limit, config.maximum_length) if limit is not None]
        self.longest = min(limits, default=None)
        self.ends = ends
        self.adapted = False
        self.actuators: Actuators | None = None

    def __call__(self, states: Array, tasks: Array, generator: torch.Generator) -> list[Imagined]:
        """One trajectory from each of `states [B, O]` under `tasks [B, K]`, in the order of the states."""
        original = np.zeros(len(states), dtype=bool)
        if self.adapted:
            original = (torch.rand(len(states), generator=generator, device=generator.device) < self.config.original_share).cpu().numpy()
        chains: list[list[Window]] = [[] for _ in states]
        lengths, steps = np.zeros(len(states)), np.zeros(len(states), np.int64)
        going, here = np.arange(len(states)), states
        for _ in range(self.config.maximum_windows):
            aims, final = self._aims(here, tasks[going])
            remaining = self.estimate_lengths(here, aims)
            lengths[going] = steps[going].astype(np.float32) + remaining
            self._extend(chains, going, here, aims, tasks[going], remaining, original[going], generator)
            steps[going] += [len(chains[i][-1].actions) for i in going]
            on = np.asarray([self._goes_on(chains[i][-1], steps[i], f, n) for i, f, n in zip(going, final, remaining, strict=True)])
            if not on.any():
                break
            going, here = going[on], np.stack([chains[i][-1].states[-1] for i in going[on]])
        return [self._finish(chain, task, float(n)) for chain, task, n in zip(chains, tasks, lengths, strict=True)]

    def _aims(self, states: Array, tasks: Array) -> tuple[Array, BoolArray]:
        """The goals to aim at and which of them are the tasks' own; all are where there are no waypoints."""
        if self.waypoints is None:
            return tasks, np.ones(len(tasks), dtype=bool)
        return self.waypoints(states, tasks)

    def _extend(
        self,
        chains: list[list[Window]],
        going: IntArray,
        states: Array,
        aims: Array,
        tasks: Array,
        lengths: Array,
        original: BoolArray,
        generator: torch.Generator,
    ) -> None:
        """Append to each chain in `going [G]` the window that begins in its state `[G, O]`; one batch for each denoiser."""
        horizons = self.bank.shortest_cover(lengths)
        for horizon in self.bank.horizons:
            for denoisers, chosen in ((self.bank.current, ~original), (self.bank.original, original)):
                group = np.flatnonzero((horizons == horizon) & chosen)
                if len(group):
                    windows = self._windows(denoisers[horizon], states[group], aims[group], tasks[group], generator)
                    for i, window in zip(going[group], windows, strict=True):
                        chains[i].append(window.translated(self.actuators))

    def estimate_lengths(self, states: Array, tasks: Array) -> Array:
        """The configured quantile of the remaining steps, `[B]`, at least 1. Raises `NotFinite` where the estimator gives NaN or infinity."""
        column = QUANTILES.index(self.config.length_quantile)
        lengths = self.estimator.predict(states, tasks)[:, column]
        require_finite("estimated lengths", states=states, tasks=tasks, lengths=lengths)
        return np.maximum(1.0, lengths)

    def sample(self, denoiser: Denoiser, states: Array, tasks: Array, lengths: Array, generator: torch.Generator) -> list[Imagined]:
        """One window from one denoiser for each state, pruned to its length; it aims where the first of a chain would."""
        windows = self._first_windows(denoiser, states, tasks, generator)
        return [self._finish([window], task, float(n)) for window, task, n in zip(windows, tasks, lengths, strict=True)]

    def first_windows(self, states: Array, tasks: Array, generator: torch.Generator) -> list[Window]:
        """One window of the shortest horizon from each of `states [B, O]` under `tasks [B, K]`, as the current models have it."""
        windows = self._first_windows(self.bank.current[self.bank.horizons[0]], states, tasks, generator)
        return [window.translated(self.actuators) for window in windows]

    def _first_windows(self, denoiser: Denoiser, states: Array, tasks: Array, generator: torch.Generator) -> list[Window]:
        """One window from one denoiser for each state, aimed where the first of a chain would be."""
        aims, _ = self._aims(states, tasks)
        return self._windows(denoiser, states, aims, tasks, generator)

    def _windows(self, denoiser: Denoiser, states: Array, aims: Array, tasks: Array, generator: torch.Generator) -> list[Window]:
        """One batch from one denoiser that aims at `aims [B, K]`, labelled by the reward arm, if there is one, under `tasks [B, K]`."""
        normalizer = denoiser.normalizer
        rows = denoiser.sample(states, aims, self.config.sampler, generator)
        require_finite(f"windows of {denoiser.horizon} rows that were imagined", states=states, tasks=aims, rows=rows)
        window_states, actions, outcomes = normalizer.split(rows)
        window_states[:, 0] = states  # exactly, not but for rounding
        if not self.ends:
            outcomes[..., 1] = 1.0
        actions, next_states = actions[:, :-1], window_states[:, 1:]
        passing = (aims != tasks).any(-1, keepdims=True)
        if self.reward_arm is not None:
            believed = normalizer.ended(outcomes)
            rewards, ended = self.reward_arm(window_states[:, :-1], actions, next_states, tasks)
            require_finite("rewards of what was imagined", states=window_states, actions=actions, tasks=tasks, rewards=rewards)
        else:  # to arrive at a waypoint is no success
            rewards, believed = normalizer.outcomes(outcomes)
            rewards, ended = np.where(passing, np.float32(normalizer.spec.reward_minimum), rewards), believed & ~passing
        stops = believed | ended
        if self.waypoints is not None:
            stops |= passing & self.waypoints.reached(next_states, aims)
        normalised = rows[..., : normalizer.spec.state_dim]
        stopped = np.asarray(stops.any(-1))
        used = np.where(stopped, stops.argmax(-1) + 1, stops.shape[1])  # what the denoiser wrote behind a stop is not part of the trajectory
        return [
            Window(
                denoiser.horizon,
                window_states[i, : t + 1],
                normalised[i, : t + 1],
                actions[i, :t],
                rewards[i, :t],
                ended=bool(ended[i, t - 1]),
                stopped=bool(stopped[i]),
                behind=window_states[i, t + 1 :],
            )
            for i, t in enumerate(used)
        ]

    def _goes_on(self, window: Window, steps: int, final: bool, remaining: float) -> bool:
        """Whether a chain of so many steps goes on behind its last window: the task has not ended, and there is more to come and room for it."""
        if window.ended or (self.longest is not None and steps >= self.longest):
            return False
        return not final or window.stopped or remaining > len(window.actions)

    def _finish(self, chain: list[Window], task: Array, length: float) -> Imagined:
        """Join the windows of a chain and prune them as one."""
        states = np.concatenate([chain[0].states[:1], *(window.states[1:] for window in chain)])
        normalised = np.concatenate([chain[0].normalised[:1], *(window.normalised[1:] for window in chain)])
        actions, rewards = np.concatenate([w.actions for w in chain]), np.concatenate([w.rewards for w in chain])
        ended = np.zeros(len(actions), dtype=bool)
        ended[-1] = chain[-1].ended  # the others went on
        rewarded = rewards > self.estimator.normalizer.spec.reward_minimum
        pruned = prune(normalised, rewarded, ended, round(length), self.epsilon, self.config.prune).capped(self.longest)
        generated = 1 + sum(window.horizon - 1 for window in chain)
        pruned = pruned._replace(cut=pruned.cut + generated - len(states))
        transitions = pruned.rows[:-1]
        ends = bool(ended[transitions[-1]])
        trajectory = Trajectory(
            states[pruned.rows], actions[transitions], rewards[transitions].astype(np.float32), task, terminated=ends, truncated=not ends
        )
        joined = np.concatenate([states, chain[-1].behind])
        return Imagined(trajectory, tuple(window.horizon for window in chain), length, pruned, generated, joined)


def goal_rewards(goal: Sequence[int], radius: float, success: float, otherwise: float) -> RewardArm:
    """The reward arm that takes a goal `[K]` for reached where the next state's entries `goal` are within the radius of it."""

    def label(states: Array, actions: Array, next_states: Array, tasks: Array) -> tuple[Array, BoolArray]:
        del states, actions
        reached = goal_distance(next_states, tasks[:, None], goal) <= radius
        return np.where(reached, success, otherwise).astype(np.float32), reached

    return label


def learned_rewards(model: RewardModel) -> RewardArm:
    """The reward arm that asks the fitted model."""
    return _window_by_window(model.predict)


def oracle_rewards(oracle: Callable[[Array, Array], tuple[Array, BoolArray]]) -> RewardArm:
    """The reward arm that asks the environment's own reward function about next states `[T, O]` and the task `[K]`."""
    return _window_by_window(lambda states, actions, next_states, task: oracle(next_states, task))


def _window_by_window(label: RewardArm) -> RewardArm:
    """The arm that asks `label` about each window alone."""

    def labels(*windows: Array) -> tuple[Array, BoolArray]:
        rewards, ended = zip(*map(label, *windows), strict=True)
        return np.stack(rewards), np.stack(ended)

    return labels
