"""The public Python interface, kept stable: imagine from states, and a replay that imagines by itself.

    from atradiff.api import ImaginingReplay, Synthesizer

    synthesizer = Synthesizer.load("my-project")                   # the folder with params.yaml, where `dvc repro` has run
    trajectories = synthesizer(states, tasks)                      # states [B, O], tasks [B, K] -> a list of B trajectories
    replay = ImaginingReplay(synthesizer)
    replay.add(state, task, action, reward, next_state, terminated, truncated)     # every env step
    batch = replay.sample(256)                                     # a TransitionBatch, part real and part imagined
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from atradiff.data.environment import TaskEnvironment
from atradiff.data.store import OfflineData
from atradiff.errors import UserError
from atradiff.online.seeds import make_generator
from atradiff.online.starts import beforehand
from atradiff.params.load import load_params
from atradiff.params.schema import Params
from atradiff.project.artifacts import load_split, load_synthesizer, offline_starts
from atradiff.project.layout import PARAMS_FILE, Layout
from atradiff.project.staleness import require_offline_stages
from atradiff.replay.buffer import Buffer
from atradiff.replay.mixed import MixedReplay, ReplayConfig, SynthesisTrigger
from atradiff.synthesis.synthesizer import Synthesizer as _Synthesizer
from atradiff.trajectory import Array, Source, Spec, Trajectory, TransitionBatch, join_task

__all__ = [
    "Buffer",
    "ImaginingReplay",
    "MixedReplay",
    "ReplayConfig",
    "SynthesisTrigger",
    "Synthesizer",
    "Trajectory",
    "TransitionBatch",
    "make_environment",
]


class Synthesizer:
    """Imagines trajectories from states: the models of a project, and a generator for what they draw."""

    def __init__(
        self, inner: _Synthesizer, params: Params, seed: int = 0, origin: tuple[Path, str] | None = None, kept: OfflineData | None = None
    ) -> None:
        self.inner = inner
        self.params = params
        self.seed = seed
        self.generator = make_generator(seed, "synthesis")
        self._origin = origin
        self._kept = kept

    @classmethod
    def load(cls, project: str | Path, *, seed: int = 0, device: str = "cpu") -> Synthesizer:
        """The models of the project in the folder `project`, which holds params.yaml; raises UserError where its offline stages are not done."""
        root = Path(project).resolve()
        params = load_params(root / PARAMS_FILE)
        layout = Layout(root, params.task.name)
        require_offline_stages(root, params)
        kept, _ = load_split(layout, params)
        environment = TaskEnvironment(params.task.environment) if params.synthesis.reward == "oracle" else None
        return cls(load_synthesizer(layout, params, kept, device, environment), params, seed, (root, device), kept)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle holds where the models lie, and not the models."""
        if self._origin is None:
            raise TypeError("a synthesizer that was not loaded from a project cannot be pickled")
        return _load_again, (*self._origin, self.seed, self.generator.get_state())

    @property
    def spec(self) -> Spec:
        """Sizes of states, tasks and actions, and the range of the actions."""
        return self.inner.estimator.normalizer.spec

    def __call__(self, states: Array, tasks: Array | None = None) -> list[Trajectory]:
        """One trajectory from each of `states [B, O]` under `tasks [B, K]`, one task `[K]` for all, or None where the data knows no tasks."""
        here = np.atleast_2d(np.asarray(states, np.float32))
        aims = np.zeros((len(here), 0), np.float32) if tasks is None else np.asarray(tasks, np.float32)
        aims = np.broadcast_to(aims, (len(here), aims.shape[-1]))
        found, known = (here.shape[-1], aims.shape[-1]), (self.spec.state_dim, self.spec.task_dim)
        if here.ndim != 2 or found != known:
            raise UserError(f"states and tasks have sizes {found}, but those of the project's data have {known}: give states [B, O] and tasks [B, K] of these")
        return [imagined.trajectory for imagined in self.inner(here, aims, self.generator)]

    def warm_starts(self, count: int) -> tuple[Array, Array]:
        """States `[count, O]` and tasks `[count, K]` that an online run's warm start would imagine from: states of the offline data and those that
        episodes begin in, as `online.warm_start_offline_share` and `online.warm_start_goals` say. No env step is taken."""
        if self._kept is None:
            raise UserError("a synthesizer that was not loaded from a project knows no offline data to begin in: give the states to imagine from")
        environment = TaskEnvironment(self.params.task.environment)
        starts = offline_starts(self.params, self._kept, environment)
        resets = beforehand(environment, self.seed, starts.resets(count))
        environment.close()
        return starts(count, *resets, self.generator)


class _Resets(gym.Wrapper[Any, Any, Any, Any]):
    """Every reset has these options, but for those that it is given."""

    def __init__(self, env: gym.Env[Any, Any], options: dict[str, Any]) -> None:
        super().__init__(env)
        self._options = options

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=seed, options={**self._options, **(options or {})} or None)


def make_environment(project: str | Path) -> gym.Env[Any, Any]:
    """The environment of the project in that folder for other libraries' agents: its episodes begin, and have their goals, where the task's do."""
    config = load_params(Path(project).resolve() / PARAMS_FILE).task.environment
    return _Resets(TaskEnvironment(config).env, config.reset_options)


def _load_again(root: Path, device: str, seed: int, generator_state: torch.Tensor) -> Synthesizer:
    loaded = Synthesizer.load(root, seed=seed, device=device)
    loaded.generator.set_state(generator_state)
    return loaded


class ImaginingReplay:
    """D_o and D_s with ATraDiff's trigger: real steps come in by `add`, and imagined trajectories come beside them by themselves.

    Settings are the project's (`replay` in params.yaml) unless `config` gives others. With `unit_actions` all actions are stored in [-1, 1], as
    real ones are given then, too. Several environments may take turns in `add`, each under a number of its own.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        config: ReplayConfig | None = None,
        *,
        discount: float | None = None,
        unit_actions: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        params, spec = synthesizer.params, synthesizer.spec
        config = replace(config or params.replay, offline_ratio=0.0)
        discount = params.agent.discount if discount is None else discount
        sizes = (spec.observation_dim, spec.action_dim, config.n_step, discount, device)
        online = Buffer(config.online_capacity, *sizes, Source.ONLINE)
        self.mixed = MixedReplay(config, online, Buffer(config.synthetic_capacity, *sizes, Source.IMAGINED))
        self.synthesizer = synthesizer
        self.unit_actions = unit_actions
        self.trigger = SynthesisTrigger(config.synthetic_ratio, float(synthesizer.inner.bank.horizons[-1] - 1))
        self._generators = {use: make_generator(seed, use) for use in ("trigger", "replay")}
        self._requests: list[tuple[Array, Array]] = []
        low, high = np.asarray(spec.action_low, np.float32), np.asarray(spec.action_high, np.float32)
        self._centre, self._half = (high + low) / 2, (high - low) / 2

    def __len__(self) -> int:
        """Transitions stored, real and imagined."""
        return len(self.mixed.online) + len(self.mixed.synthetic)

    def add(
        self, state: Array, task: Array, action: Array, reward: float, next_state: Array, terminated: bool, truncated: bool, environment: int = 0
    ) -> None:
        """One real step from `state [O]` under `task [K]`, in the environment of that number; requests that have gathered are imagined from the states
        that steps began in."""
        for _ in range(self.trigger.step(self._generators["trigger"])):
            self._requests.append((state, task))
        self.mixed.online.add_step(join_task(state, task), action, reward, join_task(next_state, task), terminated, truncated, environment)
        if len(self._requests) >= self.synthesizer.params.synthesis.batch_size:
            states, tasks = (np.stack(parts) for parts in zip(*self._requests, strict=True))
            self._requests.clear()
            for trajectory in self._imagined(states, tasks):
                self.trigger.stored(len(trajectory))

    def imagine(self, states: Array, tasks: Array | None = None) -> None:
        """Imagine from these states now, before the first env step: a warm start, which does not count in the synthetic share."""
        self._imagined(states, tasks)
        self.mixed.warm_start_transitions = self.mixed.synthetic.added

    def warm_start(self, count: int | None = None) -> None:
        """`imagine` from `count` starts as an online run does before its first env step, see `Synthesizer.warm_starts`; where it is None,
        from `online.warm_start_trajectories`."""
        count = self.synthesizer.params.online.warm_start_trajectories if count is None else count
        if count:
            self.imagine(*self.synthesizer.warm_starts(count))

    def clear(self) -> None:
        """Forget all transitions, real and imagined."""
        self.mixed.online.clear()
        self.mixed.synthetic.clear()

    def sample(self, batch_size: int) -> TransitionBatch:
        """`batch_size` transitions with their n-step targets, real and imagined as `config.sampling` says."""
        return self.mixed.sample(batch_size, self._generators["replay"])

    def _imagined(self, states: Array, tasks: Array | None) -> list[Trajectory]:
        trajectories = self.synthesizer(states, tasks)
        for trajectory in trajectories:
            unit = replace(trajectory, actions=(trajectory.actions - self._centre) / self._half) if self.unit_actions else trajectory
            self.mixed.synthetic.add_trajectory(unit)
        return trajectories
