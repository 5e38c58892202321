"""Imagination inside Stable-Baselines3's SAC, TD3 and DDPG, and inside those of SBX.

    from atradiff.integrations.sb3 import ImaginingReplayBuffer

    model = SAC("MultiInputPolicy", env, replay_buffer_class=ImaginingReplayBuffer, replay_buffer_kwargs={"project": "my-project"})
    model.learn(10_000)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer  # pyright: ignore[reportMissingImports]
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples  # pyright: ignore[reportMissingImports]

from atradiff.api import ImaginingReplay, Synthesizer
from atradiff.data.environment import box_actions
from atradiff.errors import UserError, did_you_mean
from atradiff.integrations.observations import Observations
from atradiff.integrations.settings import replay_config
from atradiff.trajectory import Array

HER_SETTINGS = {"n_sampled_goal", "goal_selection_strategy", "copy_info_dict"}
SETTINGS = ("project", "synthetic_ratio", "n_steps", "gamma", "warm_start", "seed")


class ImaginingReplayBuffer(ReplayBuffer):  # pyright: ignore[reportUntypedBaseClass]
    """Stable-Baselines3's replay buffer over `ImaginingReplay`.

    `project` is the folder of an atradiff project whose offline stages are done. `synthetic_ratio` and `n_steps` are the project's
    (`replay.synthetic_ratio`, `replay.n_step`) where they are None, `gamma` is its `agent.discount` and must be the model's. `warm_start` is
    how many trajectories are imagined before the first env step, the project's `online.warm_start_trajectories` where it is None; 0 is none.
    With VecNormalize imagined transitions are normalised as real ones are. Raises UserError for what is not supported: hindsight relabelling (HER)
    and `optimize_memory_usage`.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        project: str | Path,
        synthetic_ratio: float | None = None,
        n_steps: int | None = None,
        gamma: float | None = None,
        warm_start: int | None = None,
        seed: int = 0,
        **unknown: Any,
    ) -> None:
        if unknown.keys() & HER_SETTINGS:
            raise UserError("hindsight relabelling (HER) is not supported beside imagination: leave HerReplayBuffer and its settings out")
        for name in unknown:
            raise UserError(f"replay_buffer_kwargs has an unknown key {name!r}{did_you_mean(name, SETTINGS)}: it takes {', '.join(SETTINGS)}")
        if optimize_memory_usage:
            raise UserError("optimize_memory_usage is not supported beside imagination: leave it False")
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        synthesizer = Synthesizer.load(project, seed=seed)
        params = synthesizer.params
        config = replay_config(params.replay, buffer_size, synthetic_ratio, n_steps)
        self.layout = Observations(observation_space, synthesizer.spec, params.task.environment.achieved_goal)
        actions = box_actions(action_space, "the environment")
        if (len(actions.low), tuple(actions.low.tolist()), tuple(actions.high.tolist())) != (
            synthesizer.spec.action_dim, synthesizer.spec.action_low, synthesizer.spec.action_high
        ):  # fmt: skip
            raise UserError(f"the environment's actions {actions} are not those of the project's data: give this environment's project")
        self.replay = ImaginingReplay(synthesizer, config, discount=gamma, unit_actions=True, seed=seed, device=self.device)
        self.replay.warm_start(warm_start)

    def size(self) -> int:
        """Real transitions stored."""
        return len(self.replay.mixed.online)

    def reset(self) -> None:
        """Forget everything, imagined transitions too."""
        self.replay.clear()
        BaseBuffer.reset(self)

    def add(self, obs: Any, next_obs: Any, action: Array, reward: Array, done: Array, infos: list[dict[str, Any]]) -> None:
        """One step of every environment; `action` is scaled to [-1, 1], as the library gives it."""
        (states, tasks), (next_states, _) = (self.layout.split(value, self.n_envs) for value in (obs, next_obs))
        actions = np.asarray(action, np.float32).reshape(self.n_envs, -1)
        for i, info in enumerate(infos):
            ended, truncated = bool(done[i]), bool(info.get("TimeLimit.truncated", False))
            self.replay.add(states[i], tasks[i], actions[i], float(reward[i]), next_states[i], ended and not truncated, ended and truncated, i)

    def sample(self, batch_size: int, env: Any = None) -> Any:
        """`batch_size` transitions, real and imagined, with n-step rewards and the discount of what follows them."""
        batch = self.replay.sample(batch_size)
        observations, next_observations = (self._observations(rows.cpu().numpy(), env) for rows in (batch.observation, batch.next_observation))
        reward = self.to_torch(self._normalize_reward(batch.reward.cpu().numpy()[:, None], env))
        dones = (batch.discount == 0).float()[:, None]
        kind = DictReplayBufferSamples if self.layout.is_goal else ReplayBufferSamples
        return kind(observations, batch.action, next_observations, dones, reward, batch.discount[:, None])

    def _observations(self, rows: Array, env: Any) -> Any:
        found = self._normalize_obs(self.layout.join(rows), env)
        return {key: self.to_torch(value) for key, value in found.items()} if isinstance(found, dict) else self.to_torch(found)
