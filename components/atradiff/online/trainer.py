"""The online loop of ATraDiff, in plain Python: it reads like the algorithm box and knows no workflow engine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atradiff.agents.actor_critic import ActorCritic
from atradiff.agents.evaluate import Evaluator
from atradiff.data.environment import TaskEnvironment
from atradiff.numbers import require_finite_state
from atradiff.online.adaptation import Adapted, Adapter
from atradiff.online.clock import Clock
from atradiff.online.distance import Distances
from atradiff.online.episode import Episode
from atradiff.online.importance import Importance, PickedSet
from atradiff.online.learning import learn
from atradiff.online.metrics import KEPT_FOR_PICTURES, adaptation_metrics, critic_errors, imagination_metrics
from atradiff.online.plan import OnlineConfig, Phase
from atradiff.online.seeds import episode_seed, make_generator
from atradiff.online.starts import OfflineStarts, beforehand
from atradiff.replay.mixed import MixedReplay, SynthesisTrigger
from atradiff.synthesis.actuators import Actuators
from atradiff.synthesis.synthesizer import Imagined, Synthesizer, imagined_state, load_imagined
from atradiff.trajectory import Array, join_task

TIMERS = ("env", "update", "synthesis", "adapt", "evaluate")
GENERATORS = ("act", "update", "replay", "trigger", "synthesis", "adapt", "watch", "distance")
ON_DEVICE = ("update", "replay")
"""Uses whose generators are on the agent's device, so that nothing waits for what they draw."""
IMAGINED_TOGETHER = 1_024
"""Trajectories of one batch beforehand. Chains end one after the other, and a window of the last few costs as much as one of many."""
NETWORKS = ("agent", "models")
"""What of a state holds them."""


@dataclass(frozen=True)
class Imagination:
    """What an imagining agent has beside a plain one. `starts` say where else than in resets imagination begins beforehand."""

    synthesizer: Synthesizer
    adapter: Adapter
    picked: PickedSet
    importance: Importance
    starts: OfflineStarts


class Trainer:
    """Runs an agent online; with an `Imagination` it is ATraDiff, without one the plain agent, bit for bit.

    Every random draw comes from a generator of `seed` and its use, so that one use never shifts another.
    """

    def __init__(
        self,
        environments: Sequence[TaskEnvironment],
        evaluator: Evaluator,
        agent: ActorCritic,
        replay: MixedReplay,
        imagination: Imagination | None,
        config: OnlineConfig,
        seed: int,
    ) -> None:
        self.environments = environments
        self.evaluator = evaluator
        self.agent = agent
        self.replay = replay
        self.imagination = imagination
        self.config = config
        self.seed = seed
        self.generators = {name: make_generator(seed, name, agent.device if name in ON_DEVICE else "cpu") for name in GENERATORS}
        expected = float(imagination.synthesizer.bank.horizons[-1] - 1) if imagination else 1.0
        self.trigger = SynthesisTrigger(replay.config.synthetic_ratio, expected)
        self.env_steps = 0
        self.episodes = 0
        self.successes = 0
        self.adapted = 0
        self.adaptations: list[Adapted] = []
        self.distances: list[Distances] = []
        self._warm_starts = np.zeros((0, agent.spec.state_dim), np.float32), np.zeros((0, agent.spec.task_dim), np.float32)
        self.imagined: list[Imagined] = []
        self.latest: list[tuple[int, float, bool]] = []  # of the same: length, estimated length, terminated
        self.clock = Clock(TIMERS)
        self._logs: dict[str, Tensor] = {}
        self.rolled_back = 0
        self._requests: list[tuple[Array, Array]] = []
        anew = imagination is not None and imagination.adapter.config.actuators and config.warm_start_gradient_steps > 0
        self._fresh = copy.deepcopy(agent.state_dict()) if anew else None
        self._begin_episodes()

    @property
    def environment(self) -> TaskEnvironment:
        """The first of the environments, which are all alike."""
        return self.environments[0]

    def run_phase(self, phase: Phase, on_step: Callable[[int], None] = lambda env_steps: None) -> dict[str, Any] | None:
        """Do one phase of the plan (all but the checkpoint, which is the caller's); an evaluation returns its metrics.

        `on_step` hears of every env step, and in the warm start, which has none, of every gradient step. It may raise to stop the run there: between
        two env steps `state_dict` holds all that there is, in the middle of a warm start it does not.
        """
        match phase.kind:
            case "warm_start":
                self.warm_start(on_step)
            case "collect_and_update":
                self.collect_and_update(phase.steps, on_step)
            case "adapt":
                self.adapt()
            case "evaluate":
                return self.evaluate()
            case _:
                raise ValueError(f"{phase.kind} is none of the trainer's phases: a checkpoint is written by the caller, from state_dict()")
        return None

    # --- the algorithm -------------------------------------------------------------------------------------------------

    def warm_start(self, on_step: Callable[[int], None] = lambda env_steps: None) -> None:
        """Before the first env step: imagine from reset states and learn from that (rlpd: from the offline data). Ours."""
        if self.imagination is not None:
            with self.clock.timed("synthesis"):
                self._warm_starts = self._draw_resets()
            self._imagine_beforehand()
        elif self.replay.offline is None:
            return
        self._learn_beforehand(on_step)

    def collect_and_update(self, until: int, on_step: Callable[[int], None]) -> None:
        """The loop: act, store, request imagination from s', serve requests in batches, update."""
        while self.env_steps < until:
            acting = min(len(self.environments), until - self.env_steps)
            with self.clock.timed("env"):
                self._act(acting)
            if self.imagination is not None:
                self._request_imagination(acting)
                if len(self._requests) >= self.imagination.synthesizer.config.batch_size:
                    self._imagine()
            with self.clock.timed("update"):
                for _ in range(min(acting, self.env_steps + 1 - self.config.update_after_env_steps)):
                    self._learn(self.agent.config.batch_size * self.agent.config.utd_ratio)
            on_step(self.env_steps)
        if self._requests:
            self._imagine()

    def adapt(self) -> None:
        """Adapt the models on the picked real trajectories (nothing happens before the first episode has ended). Actuators that have changed
        are found on these and on the open episodes; then what was imagined and learned is forgotten, and the warm start comes again (ours)."""
        if self.imagination is None:
            return
        adapter, picked = self.imagination.adapter, self.imagination.picked.trajectories
        real = [*picked, *(episode.trajectory(terminated=False) for episode in self._open if len(episode))]
        if not (picked or (adapter.config.actuators and real)):
            return
        with self.clock.timed("adapt"):
            self.adapted += 1
            seed = int(torch.randint(2**31, (), generator=self.generators["distance"]))
            before = adapter.distance(real, torch.Generator().manual_seed(seed))
            anew = adapter.config.actuators and adapter.measure_actuators(real)
            if picked:
                self.adaptations = adapter.adapt(picked, self.generators["adapt"])
            after = adapter.distance(real, torch.Generator().manual_seed(seed))
            self.distances.append(Distances(self.env_steps, before, after))
        if anew:
            self._begin_anew()

    def evaluate(self) -> dict[str, Any]:
        """Evaluate, and tell everything worth a line of metrics."""
        with self.clock.timed("evaluate"):
            result = self.evaluator(self.agent)
        return {
            "env_steps": self.env_steps,
            "gradient_steps": self.agent.gradient_steps,
            **result.metrics(),
            "online/episodes": self.episodes,
            "online/successes": self.successes,
            "replay/online": len(self.replay.online),
            "replay/synthetic": len(self.replay.synthetic),
            "replay/synthetic_share": self.replay.synthetic_share,
            "synthesis/trajectories": self.trigger.trajectories,
            "synthesis/mean_length": self.trigger.mean_length if self.trigger.trajectories else 0.0,
            "adaptation/count": self.adapted,
            "adaptation/rolled_back": sum(a.rolled_back for a in self.adaptations),
            **adaptation_metrics(self.adaptations, self.distances, self.imagination.synthesizer if self.imagination else None),
            **imagination_metrics(self.latest, ends=self.imagination is not None and self.imagination.starts.ends),
            **critic_errors(self.agent, self.replay, self.generators["watch"]),
            **{f"agent/{name}": float(value) for name, value in self._logs.items()},
            **self.clock.metrics(),
        }

    # --- its steps -----------------------------------------------------------------------------------------------------

    def _act(self, count: int) -> None:
        """A step in each of the first `count` environments: D_o.add(s, a, r, s')."""
        observations = np.stack([episode.observation for episode in self._open[:count]])
        actions = self.agent.act(observations, self.generators["act"])
        for i, (observation, action) in enumerate(zip(observations, actions, strict=True)):
            state, task, reward, terminated, truncated, success = self.environments[i].step(action)
            self.replay.online.add_step(observation, action, reward, join_task(state, task), terminated, truncated, i)
            self.env_steps += 1
            self._open[i].add(action, state, task, reward, success)
            if terminated or truncated:
                self._end_episode(i, terminated)

    def _begin_episodes(self) -> None:
        """One in each environment."""
        self._open = [self._new_episode(i, self.episodes + i) for i in range(len(self.environments))]

    def _new_episode(self, i: int, number: int) -> Episode:
        return Episode(number, *self.environments[i].reset(episode_seed(self.seed, number)))

    def _end_episode(self, i: int, terminated: bool) -> None:
        """Pick environment i's episode up for adaptation if it is important, and reset."""
        if self.imagination is not None:
            trajectory, generator = self._open[i].trajectory(terminated), self.generators["adapt"]
            self.imagination.picked.add(trajectory, self.imagination.importance(trajectory, generator), generator)
        self.successes += self._open[i].succeeded
        self._leave_episode(i)

    def _leave_episode(self, i: int) -> None:
        """Go on with the episode that no environment has begun yet."""
        self.episodes += 1
        self._open[i] = self._new_episode(i, self.episodes + len(self.environments) - 1)

    def _request_imagination(self, count: int) -> None:
        """With the trigger's probability: one or more trajectories from the state that each of the first `count` environments is in now."""
        for episode in self._open[:count]:
            requested = self.trigger.step(self.generators["trigger"])
            self._requests += [(episode.state, episode.task)] * requested

    def _imagine(self) -> None:
        """Serve all requests: D_s.add(tau)."""
        states, tasks = (np.stack(parts) for parts in zip(*self._requests, strict=True))
        with self.clock.timed("synthesis"):
            for length in self._imagine_from(states, tasks):
                self.trigger.stored(length)
        self._requests.clear()

    def _draw_resets(self) -> tuple[Array, Array]:
        """States `[N, O]` and tasks `[N, K]` of the resets that the warm start needs; no env step is taken for it."""
        assert self.imagination is not None
        starts = beforehand(self.environment, self.seed, self.imagination.starts.resets(self.config.warm_start_trajectories))
        self._open[0] = self._new_episode(0, self._open[0].number)
        return starts

    def _imagine_beforehand(self) -> None:
        """Imagine from states of the offline data and from those that episodes begin in."""
        assert self.imagination is not None
        with self.clock.timed("synthesis"):
            states, tasks = self.imagination.starts(self.config.warm_start_trajectories, *self._warm_starts, self.generators["synthesis"])
            lengths: list[int] = []
            for first in range(0, len(states), IMAGINED_TOGETHER):
                lengths += self._imagine_from(*(part[first : first + IMAGINED_TOGETHER] for part in (states, tasks)))
            self.trigger.expect(float(np.mean(lengths)))
            self.replay.warm_start_transitions = self.replay.synthetic.added

    def _learn_beforehand(self, on_step: Callable[[int], None] = lambda env_steps: None) -> None:
        with self.clock.timed("update"):
            for _ in range(self.config.warm_start_gradient_steps):
                self._learn(self.agent.config.batch_size, beforehand=True)
                on_step(self.env_steps)

    def _begin_anew(self) -> None:
        """Forget D_s, and what the agent has learned from it, and repeat the warm start. What the trigger had added counts as imagined anew, so the
        synthetic share stays as it was."""
        triggered = self.replay.synthetic.added - self.replay.warm_start_transitions
        self.replay.synthetic.clear()
        self._imagine_beforehand()
        self.replay.warm_start_transitions -= min(triggered, self.replay.synthetic.added)
        if self._fresh is not None:
            self.agent.load_state_dict({**self._fresh, "gradient_steps": self.agent.gradient_steps})
        self._learn_beforehand()

    def _imagine_from(self, states: Array, tasks: Array) -> list[int]:
        """Imagine one trajectory from each state `[B, O]` into D_s, keep the last ones for pictures, and return their lengths."""
        assert self.imagination is not None
        imagined = self.imagination.synthesizer(states, tasks, self.generators["synthesis"])
        for one in imagined:
            self.replay.synthetic.add_trajectory(one.trajectory)
        self.imagined = [*self.imagined, *imagined][-KEPT_FOR_PICTURES:]
        told = [(len(one.trajectory), one.estimated_length, one.trajectory.terminated) for one in imagined]
        self.latest = [*self.latest, *told][-KEPT_FOR_PICTURES:]
        return [len(one.trajectory) for one in imagined]

    def _learn(self, transitions: int, beforehand: bool = False) -> None:
        batch = self.replay.sample(transitions, self.generators["replay"], beforehand)
        self._logs = learn(self.agent, batch, self.generators["update"])

    # --- checkpoints ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to go on as if it had not stopped, between any two env steps; plain tensors, numbers and strings.

        The replays' rows are not copied, see `Buffer.state_dict`. The models are apart from the rest, as they change only when they adapt or are
        rolled back, and `originals` never: equal `revisions` are equal models.

        Raises `NotFinite` where a network has come to hold NaN or infinity.
        """
        state: dict[str, Any] = {
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "successes": self.successes,
            "open_episodes": [self._episode_state(episode) for episode in self._open],
            "agent": self.agent.state_dict(),
            "agent_logs": self._logs,
            "requests": [[torch.from_numpy(part.copy()) for part in request] for request in self._requests],
            "replay": self.replay.state_dict(),
            "trigger": self.trigger.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            **self.clock.state_dict(),
            "latest": [list(told) for told in self.latest],
            "imagined": [imagined_state(one) for one in self.imagined],
            "adapted_times": self.adapted,
            "rolled_back": self.rolled_back,
            "adaptations": [list(adapted) for adapted in self.adaptations],
            "distances": [list(distances) for distances in self.distances],
            "warm_starts": [torch.from_numpy(part) for part in self._warm_starts],
        }
        if self.imagination is not None:
            synthesizer = self.imagination.synthesizer
            state["models"], state["originals"] = ({name: model.state_dict() for name, model in models.items()} for models in self._models())
            state["revisions"] = {"models": f"{self.adapted}.{self.rolled_back}", "originals": "0"}
            state["adapted"], state["ends"] = synthesizer.adapted, synthesizer.ends
            actuators = synthesizer.actuators
            state["strength"] = torch.from_numpy(actuators.strength) if actuators is not None else None
            state["picked"] = self.imagination.picked.state_dict()
        for name in NETWORKS:
            require_finite_state(name, state.get(name, {}))
        return state

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Go on from `state`. The open episodes are played again from their seeds and their actions.

        Returns False where an environment did not come back to the same state (it is not deterministic): then a new episode begins there.
        """
        self.env_steps, self.episodes, self.successes = int(state["env_steps"]), int(state["episodes"]), int(state["successes"])
        self._load_networks(state)
        self._requests = [(one.numpy(), task.numpy()) for one, task in state["requests"]]
        self.replay.load_state_dict(state["replay"])
        self.trigger.load_state_dict(state["trigger"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        self.clock.load_state_dict(state)
        self.latest = [(int(length), float(estimate), bool(terminated)) for length, estimate, terminated in state["latest"]]
        self.imagined = [load_imagined(one) for one in state["imagined"]]
        self.adapted, self.rolled_back = int(state["adapted_times"]), int(state["rolled_back"])
        self.adaptations = [Adapted(*values) for values in state["adaptations"]]
        self.distances = [Distances(*values) for values in state["distances"]]
        states, tasks = state["warm_starts"]
        self._warm_starts = states.numpy(), tasks.numpy()
        if self.imagination is not None:
            self.imagination.picked.load_state_dict(state["picked"])
        came_back = [self._play_again(i, episode) for i, episode in enumerate(state["open_episodes"])]
        return all(came_back)

    def roll_back(self, state: dict[str, Any]) -> None:
        """Take the networks of an earlier `state_dict` and go on with new episodes. Replays, counters and generators stay: so what is drawn
        next is not what led to where the networks were left."""
        self.rolled_back += 1
        self._load_networks(state)
        self.trigger.dropped(len(self._requests))
        self._requests.clear()
        for i in range(len(self.environments)):
            self.replay.online.close_episode(i)
        self.episodes += len(self.environments)
        self._begin_episodes()

    def _load_networks(self, state: dict[str, Any]) -> None:
        """The agent, the current denoisers, the length estimator, and what imagination takes the actuators for."""
        self.agent.load_state_dict(state["agent"])
        self._logs = dict(state["agent_logs"])
        if self.imagination is not None:
            synthesizer = self.imagination.synthesizer
            for models, states in zip(self._models(), (state["models"], state["originals"]), strict=True):
                for name, model in models.items():
                    model.load_state_dict(states[name])
            synthesizer.adapted, synthesizer.ends = bool(state["adapted"]), bool(state["ends"])
            strength = state["strength"]
            synthesizer.actuators = Actuators(self.agent.spec, strength.numpy()) if strength is not None else None

    def _models(self) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
        """The models that adapt, by name, and what they were."""
        assert self.imagination is not None
        bank, adapter = self.imagination.synthesizer.bank, self.imagination.adapter
        current, original = ({f"denoiser {h}": d for h, d in denoisers.items()} for denoisers in (bank.current, bank.original))
        return {**current, "length estimator": self.imagination.synthesizer.estimator}, {**original, "length estimator": adapter.original_estimator}

    def _episode_state(self, episode: Episode) -> dict[str, Any]:
        """What it takes to play an open episode again, and to see that it comes to the same state."""
        actions = np.asarray(episode.actions, np.float32).reshape(-1, self.agent.spec.action_dim)
        return {"number": episode.number, "actions": torch.from_numpy(actions), "state": torch.from_numpy(episode.state.copy())}

    def _play_again(self, i: int, kept: dict[str, Any]) -> bool:
        episode = self._open[i] = self._new_episode(i, int(kept["number"]))
        for action in kept["actions"].numpy():
            state, task, reward, _, _, success = self.environments[i].step(action)
            episode.add(action, state, task, reward, success)
        if np.array_equal(episode.state, kept["state"].numpy()):
            return True
        self.replay.online.close_episode(i)
        self._leave_episode(i)
        return False
