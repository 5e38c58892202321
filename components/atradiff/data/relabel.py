"""Relabelling: real trajectories under another task than their own, with rewards from a function that is known or was read off the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from atradiff.trajectory import Array, BoolArray, Trajectory

RewardArm = Callable[[Array, Array, Array, Array], tuple[Array, BoolArray]]
"""(states `[B, T, O]`, actions `[B, T, A]`, next states `[B, T, O]`, tasks `[B, K]`) to rewards `[B, T]` and terminations `[B, T]`."""


def relabel(trajectory: Trajectory, task: Array, reward_arm: RewardArm) -> Iterator[Trajectory]:
    """The trajectory's pieces under `task [K]`: each ends where the task does, and the next one begins in the first state behind that.

    Transitions from states in which the task has ended already are left out.
    """
    states, actions = trajectory.states, trajectory.actions
    (rewards,), (ended,) = reward_arm(states[None, :-1], actions[None], states[None, 1:], task[None])
    begin = 0
    for end in [*(np.flatnonzero(ended) + 1).tolist(), len(trajectory)]:
        if begin < end:
            done = bool(ended[end - 1])
            yield Trajectory(states[begin : end + 1], actions[begin:end], rewards[begin:end], task, terminated=done, truncated=not done)
        begin = end + 1
