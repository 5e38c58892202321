"""What windows hold behind an episode's end: the motion goes on, comes to rest, and keeps what the data's states never break (ours).

Windows of a fixed number of rows reach behind the ends of episodes, and what they hold there is part of the data that the denoisers learn
from. If it breaks a linear relation of states and next states, x' = x + v dt for one, so may all that is imagined; if it keeps it, the
Gaussian around which a denoiser is built keeps it for the denoiser (`diffusion/preconditioner.py`). What an action does is left open:
it may change, and then adaptation is to follow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.trajectory import Array, IntArray

GUIDED_ROWS = 8
"""Rows behind an end for which the motion goes on."""
BRAKING_ROWS = 8
"""Rows behind these in which it comes to rest."""
CONTINUED_ROWS = GUIDED_ROWS + BRAKING_ROWS
CANDIDATES = 20_000
"""Transitions among which a motion to go on with is looked for; they are spread over the data."""
UNBROKEN_VARIANCE = 1e-8
"""In normalised units: what varies less is rounding."""
TELLING = 1e-2
"""Of a relation's unit vector, the part that is about the next state: where less is, no next state can do anything for it."""
DECIMALS = 9
"""LAPACK's last bits depend on where in memory the data lies."""


class Continuation:
    """Rows behind the ends of the data's episodes, in normalised units.

    Each state is the one nearest to a guide that keeps the relations with the state before it. The guide is, for `GUIDED_ROWS`, the episode
    that passes nearest to the last state; then it leads straight to the nearest state that may stay.
    """

    def __init__(self, data: OfflineData, normalizer: Normalizer) -> None:
        self._data, self._normalizer = data, normalizer
        self._candidates = data.transition_rows(step=max(1, data.num_transitions // CANDIDATES))
        states = normalizer.states(data.states[self._candidates])
        self._nearest = KDTree(states)
        relations, dims = _relations(states, normalizer.states(data.states[self._candidates + 1])), data.spec.state_dim
        self._to_keep = _correction(relations, dims)
        self._to_rest = _correction(np.concatenate([relations[:dims] + relations[dims:-1], relations[-1:]]), dims)

    def __call__(self, episodes: IntArray) -> tuple[Array, Array]:
        """Of `episodes [B]`: the actions `[B, 1 + CONTINUED_ROWS, A]` from the last state on, and the states `[B, CONTINUED_ROWS, O]` behind it."""
        state = self._normalizer.states(self._data.states[self._data.episode_ends[episodes] - 1]).astype(np.float64)
        actions = self._normalizer.actions(np.zeros((len(state), 1 + CONTINUED_ROWS, self._data.spec.action_dim), np.float32))
        states = []
        actions[:, :GUIDED_ROWS], guide = self._followed(state)
        for wanted in guide:
            state = _corrected(self._to_keep, state, wanted)
            states.append(state)
        for left in range(BRAKING_ROWS, 0, -1):
            rest = _corrected(self._to_rest, state)
            state = _corrected(self._to_keep, state, state + (rest - state) / left)
            states.append(state)
        return actions, np.stack(states, axis=1, dtype=np.float32)

    def _followed(self, state: NDArray[np.float64]) -> tuple[Array, NDArray[np.float64]]:
        """What is done from `state [B, O]` on, `[B, GUIDED_ROWS, A]`, and the guide, the states that it leads to, `[GUIDED_ROWS, B, O]`."""
        _, nearest = self._nearest.query(state)
        row = self._candidates[nearest]
        rows = np.minimum(row + np.arange(1 + GUIDED_ROWS)[:, None], self._data.episode_ends[self._data.episodes_of(row)] - 1)
        return self._normalizer.actions(self._data.actions[rows[:-1].T]), self._normalizer.states(self._data.states[rows[1:]]).astype(np.float64)


def _relations(states: Array, next_states: Array) -> NDArray[np.float64]:
    """Unit vectors `[2 O + 1, M]` whose product with (s, s', 1) never is more than rounding, in normalised units; none of too few rows."""
    rows = np.concatenate([states, next_states, np.ones((len(states), 1))], axis=1, dtype=np.float64)
    variance, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    return directions[:, (variance < UNBROKEN_VARIANCE) & (len(rows) > rows.shape[1])]


def _correction(relations: NDArray[np.float64], dims: int) -> NDArray[np.float64]:
    """What to take from a wanted state so that `relations [D, M]` of (what is given, the wanted state, 1) hold: `[D, O]` times these."""
    return (relations @ np.linalg.pinv(relations[-1 - dims : -1], rcond=TELLING)).round(DECIMALS)


def _corrected(correction: NDArray[np.float64], *states: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest to the last of the states `[B, O]` that keep the relations with those before it."""
    return states[-1] - np.concatenate([*states, np.ones((len(states[-1]), 1))], axis=1) @ correction
