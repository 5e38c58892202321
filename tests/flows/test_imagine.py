from __future__ import annotations

import numpy as np

from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.flows.imagine import nearest_episodes


def test_each_start_is_shown_beside_the_episode_that_begins_nearest_to_it(offline: OfflineData, held_out: OfflineData, normalizer: Normalizer) -> None:
    shown = [(offline, 3), (held_out, 2), (offline, 0), (offline, 3)]
    states = np.stack([part.trajectory(episode).states[0] for part, episode in shown])
    tasks = np.stack([part.trajectory(episode).task for part, episode in shown])
    real = nearest_episodes([offline, held_out], normalizer, states, tasks)
    for trajectory, state, task in zip(real[:3], states, tasks, strict=False):
        assert np.array_equal(trajectory.states[0], state)
        assert np.array_equal(trajectory.task, task)
    assert not np.array_equal(real[3].states[0], real[0].states[0])  # none is shown twice
