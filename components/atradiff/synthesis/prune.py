"""The pruner: from a generated window to a precise trajectory, without weights.

It only ever selects rows: it keeps the first, never lengthens, never removes a rewarded one, leaves no step longer than the window
had, and pruning again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le
from scipy.spatial import KDTree
from typing_extensions import Doc

from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.trajectory import Array, BoolArray, IntArray


@dataclass(frozen=True)
class PruneConfig:
    """What the pruner removes beyond the tail after a termination."""

    loops: Annotated[bool, Doc("Splice out loops; off where motion is periodic, as in locomotion.")] = True
    epsilon_quantile: Annotated[float, Gt(0), Le(1), Doc("Two states are the same within this quantile of the offline one-step distances.")] = 0.5
    minimum_loop_rows: Annotated[int, Ge(2), Doc("Rows a loop must have to be removed.")] = 8
    to_length: Annotated[bool, Doc("Trim to the estimated length.")] = True


class Pruned(NamedTuple):
    """The kept rows, ascending, the last one closing the trajectory; and how many rows each rule removed."""

    rows: IntArray
    cut: int
    loops: int
    trimmed: int

    def capped(self, length: int | None) -> Pruned:
        """At most `length` transitions, whatever else there is to keep; None leaves all."""
        if length is None or len(self.rows) <= length + 1:
            return self
        return self._replace(rows=self.rows[: length + 1], trimmed=self.trimmed + len(self.rows) - length - 1)


def one_step_distances(data: OfflineData, normalizer: Normalizer) -> list[float]:
    """The quantiles 0, 0.01 ... 1 of the offline one-step distances in normalised state space; the pruner's epsilon is one of them."""
    rows = data.transition_rows()
    states = normalizer.states(data.states)
    return np.quantile(np.linalg.norm(states[rows + 1] - states[rows], axis=1), np.linspace(0, 1, 101)).tolist()


def loop_epsilon(distances: list[float], quantile: float) -> float:
    """The distance within which two states are the same: the given quantile of `one_step_distances`."""
    return float(np.interp(quantile, np.linspace(0, 1, len(distances)), distances))


def prune(states: Array, rewarded: BoolArray, ended: BoolArray, length: int, epsilon: float, config: PruneConfig) -> Pruned:
    """Prune H rows.

    states `[H, O]` (normalised), rewarded `[H - 1]` and ended `[H - 1]` say of each transition whether it was rewarded and whether
    it was the last; `length` is the estimated number of transitions.
    """
    total = len(states)
    end = int(np.argmax(ended)) + 1 if ended.any() else total - 1  # transitions up to and with the first end
    rows = np.arange(end + 1)
    cut = total - len(rows)
    if config.loops:
        rows = _without_loops(states[: end + 1], rewarded[:end] | ended[:end], epsilon, config.minimum_loop_rows)
    loops = total - cut - len(rows)
    if config.to_length:
        last_rewarded = np.flatnonzero(rewarded[rows[:-1]])
        keep = max(1, length, int(last_rewarded[-1]) + 1 if len(last_rewarded) else 0)
        rows = rows[: keep + 1]
    return Pruned(rows, cut, loops, total - cut - loops - len(rows))


def _without_loops(states: Array, needed: BoolArray, epsilon: float, minimum: int) -> IntArray:
    """Walk forward; at each row jump to the latest later row within epsilon that is at least `minimum` rows away.

    The row itself is skipped for its twin, so its predecessor's next state moves by at most epsilon; where a twin has a twin of its
    own, jumps may follow each other as long as the step that is left is no longer than the longest one in the window. Row 0 stays. A
    jump never passes over a needed row. With a tree over the states this costs n log n where few states are alike.
    """
    last = len(states) - 1
    if last <= minimum:
        return np.arange(last + 1)
    twins = KDTree(states).query_pairs(epsilon, output_type="ndarray")
    blocked = np.append(np.flatnonzero(needed), last)  # a jump may land on these rows, but not pass them
    limit = blocked[np.searchsorted(blocked, np.arange(last + 1))]
    twins = twins[(twins[:, 1] - twins[:, 0] >= minimum) & (twins[:, 1] <= limit[twins[:, 0]])]
    if not len(twins):
        return np.arange(last + 1)
    twins = twins[np.lexsort(twins.T[::-1])]
    first = np.searchsorted(twins[:, 0], np.arange(last + 2)).tolist()
    longest = np.linalg.norm(np.diff(states, axis=0), axis=1).max()
    kept = [0]
    row = 1
    while row <= last:
        later = twins[first[row] : first[row + 1], 1]
        later = later[np.linalg.norm(states[later] - states[kept[-1]], axis=1) <= longest]
        if len(later):
            row = int(later[-1])
            continue
        kept.append(row)
        row += 1
    return np.asarray(kept)
