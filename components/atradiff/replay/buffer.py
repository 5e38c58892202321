"""A ring of transitions whose n-step targets are ready when they are sampled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from atradiff.errors import UserError
from atradiff.trajectory import Array, Source, Trajectory, TransitionBatch, unpack_rows


def n_step_targets(
    rewards: Array, terminated: bool, n_step: int, discount: float
) -> tuple[Array, np.ndarray, Array]:
    """For every transition t of one trajectory: the sum of `discount^k r[t + k]` over the next m <= n_step rewards `[T]`,
    the row t + m to bootstrap from `[T]`, and its weight `discount^m`, 0 where the task ended there `[T]`."""
    length = len(rewards)
    returns = np.zeros(length, np.float64)
    for k in range(min(n_step, length)):
        returns[: length - k] += discount**k * rewards[k:]
    bootstrap = np.minimum(np.arange(length) + n_step, length)
    weights = np.power(discount, bootstrap - np.arange(length))
    if terminated:
        weights[bootstrap == length] = 0.0
    return returns.astype(np.float32), bootstrap, weights.astype(np.float32)


class Buffer:
    """Holds up to `capacity` transitions; the oldest are overwritten.

    Single real steps come in by `add_step`: the n-step targets of an open episode's last steps grow with every step, so that each
    transition can be sampled at once with the best target known so far. Several episodes may be open side by side, each under a number
    of its own. Whole trajectories come in by `add_trajectory`.
    """

    def __init__(
        self,
        capacity: int,
        observation_dim: int,
        action_dim: int,
        n_step: int,
        discount: float,
        device: torch.device | str = "cpu",
        source: Source = Source.ONLINE,
    ) -> None:
        if capacity <= n_step:
            raise UserError(f"replay capacity {capacity} must be larger than replay.n_step {n_step}")
        self.capacity = capacity
        self.n_step = n_step
        self.discount = discount
        self.added = 0
        self.cleared = 0
        self._open: dict[int, tuple[list[int], Array]] = {}  # of each open episode: its last steps, by how many were added before them, and their rows
        self._rows = torch.zeros(capacity, 2 * observation_dim + action_dim + 2, device=device)  # so that one gather draws a batch
        self.observation_dim = observation_dim
        self.source = torch.tensor([int(source)], dtype=torch.uint8, device=device)
        self._data = self._unpack(self._rows)
        self._reward = observation_dim + action_dim  # its column
        self._powers = np.asarray([discount**k for k in range(n_step + 1)], np.float32)

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add_step(
        self, observation: Array, action: Array, reward: float, next_observation: Array, terminated: bool, truncated: bool, episode: int = 0
    ) -> None:
        """Add one real transition and extend the targets of the up to n_step - 1 before it in the same open episode."""
        row = np.concatenate([observation, action, [0.0], next_observation, [0.0]], dtype=np.float32)
        before, rows = self._open.get(episode, ([], row[None, :][:0]))
        steps = [step for step in [*before, self.added][-self.n_step :] if step > self.added - self.capacity]  # the others are overwritten
        rows, powers = np.vstack([rows, row])[-len(steps) :], self._powers[: len(steps) + 1][::-1]
        rows[:, self._reward] += powers[1:] * reward
        rows[:, self._reward + 1 : -1] = next_observation
        rows[:, -1] = 0.0 if terminated else powers[:-1]
        self._open[episode] = steps, rows
        self._rows[[step % self.capacity for step in steps]] = torch.from_numpy(rows).to(self._rows.device)
        self.added += 1
        if terminated or truncated:
            self.close_episode(episode)

    def close_episode(self, episode: int = 0) -> None:
        """Extend no further targets: the next step under this number begins a new episode."""
        self._open.pop(episode, None)

    def add_trajectory(self, trajectory: Trajectory) -> None:
        """Add all transitions of one trajectory."""
        rewards, bootstrap, weights = n_step_targets(trajectory.rewards, trajectory.terminated, self.n_step, self.discount)
        observations = trajectory.observations
        self._append(observations[:-1], trajectory.actions, rewards, observations[bootstrap], weights)

    def _append(self, *columns: Array) -> None:
        count = len(columns[0])
        if count > self.capacity:
            raise UserError(f"a trajectory of {count} transitions does not fit a replay of capacity {self.capacity}: enlarge it in replay.*_capacity")
        rows = torch.from_numpy(np.concatenate([column.reshape(count, -1) for column in columns], axis=1, dtype=np.float32))
        first = self.added % self.capacity
        before_the_end = min(count, self.capacity - first)
        self._rows[first : first + before_the_end] = rows[:before_the_end]
        self._rows[: count - before_the_end] = rows[before_the_end:]
        self.added += count

    def sample(self, batch_size: int, generator: torch.Generator) -> TransitionBatch:
        """`batch_size` transitions, uniform with replacement."""
        return self._unpack(self.draw(batch_size, generator))

    def draw(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """The same as rows, see `unpack_rows`."""
        return self._gather(torch.randint(len(self), (batch_size,), generator=generator, device=generator.device))

    def at(self, index: Tensor) -> TransitionBatch:
        """The transitions of the given numbers `[B]`."""
        return self._unpack(self._gather(index))

    def _gather(self, index: Tensor) -> Tensor:
        return self._rows.index_select(0, index.to(self._rows.device))

    def _unpack(self, rows: Tensor) -> TransitionBatch:
        return unpack_rows(rows, self.observation_dim, self.source.expand(len(rows)))

    def largest_reward(self) -> float:
        """The largest size of an n-step reward; 0 where nothing is stored."""
        return float(self._data.reward[: len(self)].abs().amax()) if len(self) else 0.0

    def last(self, count: int) -> TransitionBatch:
        """The `count` transitions added last, oldest first."""
        return self.at(torch.arange(self.added - count, self.added) % self.capacity)

    def clear(self) -> None:
        """Forget everything."""
        self.added = 0
        self.cleared += 1
        self._open.clear()

    def state_dict(self) -> dict[str, Any]:
        """Everything. `rows [N, W]` are the filled ones of the replay's own memory, not a copy: whoever keeps them while the replay goes on copies
        them. Transition number i, counted since the last of the `cleared` times that all was forgotten, lies in row `i % N`; those before
        `settled` change no more."""
        opened = {str(episode): list(steps) for episode, (steps, _) in self._open.items()}
        settled = min((steps[0] for steps in opened.values()), default=self.added)
        return {"added": self.added, "settled": settled, "open": opened, "cleared": self.cleared, "rows": self._rows[: len(self)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError where the rows are not as many, or not as wide, as this replay's would be."""
        self.added, self.cleared = int(state["added"]), int(state["cleared"])
        rows = state["rows"]
        if rows.shape != (len(self), self._rows.shape[1]):
            raise ValueError(f"{tuple(rows.shape)} rows do not fit a replay that holds {(len(self), self._rows.shape[1])}")
        self._rows[: len(self)] = rows.to(self._rows)
        opened = {int(episode): [int(step) for step in steps] for episode, steps in state["open"].items()}
        self._open = {episode: (steps, self._rows[[step % self.capacity for step in steps]].cpu().numpy()) for episode, steps in opened.items()}
