"""Imagination inside TorchRL's training loops: its replay buffer over ours.

    from atradiff.integrations.torchrl import ImaginingReplayBuffer

    buffer = ImaginingReplayBuffer("my-project", batch_size=256)
    for data in collector:
        buffer.extend(data)
        loss(buffer.sample())
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from tensordict import TensorDict  # pyright: ignore[reportMissingImports]
from torchrl.data import LazyTensorStorage, ReplayBuffer  # pyright: ignore[reportMissingImports]

from atradiff.api import ImaginingReplay, Synthesizer
from atradiff.data.environment import TaskEnvironment
from atradiff.integrations.observations import Observations
from atradiff.integrations.settings import replay_config


class ImaginingReplayBuffer(ReplayBuffer):  # pyright: ignore[reportUntypedBaseClass]
    """TorchRL's replay buffer over `ImaginingReplay`, for collectors of one environment or of several.

    Data has the keys of the project's environment (`observation`, and where it has goals `achieved_goal` and `desired_goal`), `action`, and under
    `next` reward, terminated and truncated. Samples have the same, and `steps_to_next_obs`, by which TorchRL's losses discount n-step targets.
    `warm_start` trajectories are imagined before the first env step, the project's `online.warm_start_trajectories` where it is None.
    """

    def __init__(
        self,
        project: str | Path,
        *,
        batch_size: int,
        synthetic_ratio: float | None = None,
        n_steps: int | None = None,
        gamma: float | None = None,
        capacity: int | None = None,
        warm_start: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(storage=LazyTensorStorage(1), batch_size=batch_size)  # nothing is stored there
        synthesizer = Synthesizer.load(project, seed=seed)
        params = synthesizer.params
        config = replay_config(params.replay, capacity or None, synthetic_ratio, n_steps)
        environment = TaskEnvironment(params.task.environment)
        space = environment.env.observation_space
        environment.close()
        self.observations = Observations(space, synthesizer.spec, params.task.environment.achieved_goal)
        self.keys = list(space.spaces) if isinstance(space, spaces.Dict) else ["observation"]
        self.usual_batch_size = batch_size
        self.gamma = params.agent.discount if gamma is None else gamma
        self.replay = ImaginingReplay(synthesizer, config, discount=self.gamma, seed=seed, device=device)
        self.replay.warm_start(warm_start)

    def __len__(self) -> int:
        return len(self.replay)

    def add(self, data: Any) -> int:
        """One transition; returns its place."""
        return int(self.extend(data.unsqueeze(0))[0])

    def extend(self, data: Any, **unused: Any) -> torch.Tensor:
        """Transitions `[T]` of one environment in the order in which they happened, or `[E, T]` of several, always the same ones in the same
        rows; returns their places."""
        online = self.replay.mixed.online
        first = online.added
        rows = data if data.ndim > 1 else data.unsqueeze(0)
        for number, episode in enumerate(rows.cpu()):
            count = len(episode)
            (states, tasks), (next_states, _) = (self.observations.split(self._values(part), count) for part in (episode, episode["next"]))
            actions, rewards = episode["action"].numpy(), episode["next", "reward"].numpy().reshape(count)
            terminated, done = (episode["next", key].numpy().reshape(count) for key in ("terminated", "done"))
            for t in range(count):
                ended = bool(terminated[t])
                self.replay.add(states[t], tasks[t], actions[t], float(rewards[t]), next_states[t], ended, bool(done[t]) and not ended, number)
        return torch.arange(first, online.added) % online.capacity

    def sample(self, batch_size: int | None = None, return_info: bool = False) -> Any:
        """`batch_size` transitions, real and imagined."""
        batch = self.replay.sample(batch_size or self.usual_batch_size)
        ends = (batch.discount == 0)[:, None]
        steps = torch.where(ends, torch.ones(()), batch.discount.clamp(min=1e-30).log()[:, None] / np.log(self.gamma)).round()
        following = {**self._tensors(batch.next_observation), "reward": batch.reward[:, None], "done": ends, "terminated": ends}
        found = TensorDict(
            {**self._tensors(batch.observation), "action": batch.action, "next": following, "steps_to_next_obs": steps},
            batch_size=[len(ends)],
        )
        return (found, {}) if return_info else found

    def empty(self, empty_write_count: bool = True) -> None:
        """Forget everything, imagined transitions too."""
        self.replay.clear()

    def _values(self, part: Any) -> Any:
        values = {key: part[key].numpy() for key in self.keys}
        return values if self.observations.is_goal else values["observation"]

    def _tensors(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        made = self.observations.join(rows.cpu().numpy())
        return {key: torch.as_tensor(value).to(rows.device) for key, value in (made.items() if isinstance(made, dict) else [("observation", made)])}
