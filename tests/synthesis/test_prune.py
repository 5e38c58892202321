"""The pruner's promises, for whatever windows there may be, and known loops removed exactly."""

from __future__ import annotations

import functools
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.synthesis.prune import PruneConfig, Pruned, loop_epsilon, one_step_distances, prune
from atradiff.trajectory import Array, BoolArray

EPSILON = 0.45
Window = tuple[Array, BoolArray, BoolArray, int, PruneConfig]


def make_window(seed: int, rows: int, scale: float, length: int, config: PruneConfig) -> Window:
    """A walk on a grid that meets itself often, with rewards and ends now and then."""
    random = np.random.default_rng(seed)
    steps = random.integers(-1, 2, (rows - 1, 2)) * (random.random((rows - 1, 1)) < 0.8)
    states = scale * np.cumsum(np.vstack([np.zeros((1, 2)), steps]), axis=0).astype(np.float32)
    rewarded, ended = random.random((2, rows - 1)) < [[0.05], [0.02]]
    return states, rewarded, ended, length, config


configs = st.builds(PruneConfig, loops=st.booleans(), minimum_loop_rows=st.sampled_from([2, 3, 8]), to_length=st.booleans())
windows = functools.partial(
    st.builds, make_window, st.integers(0, 2**31), st.integers(2, 60), st.sampled_from([0.03, 0.3, 1.0]), st.integers(0, 70), configs
)


def pruned(window: Window) -> Pruned:
    states, rewarded, ended, length, config = window
    return prune(states, rewarded, ended, length, EPSILON, config)


def again(window: Window, rows: np.ndarray) -> Window:
    """The window of what was kept."""
    states, rewarded, ended, length, config = window
    return states[rows], rewarded[rows[:-1]], ended[rows[:-1]], length, config


@given(windows())
def test_a_subsequence_with_its_first_row_and_at_least_one_transition(window: Window) -> None:
    rows = pruned(window).rows
    assert rows[0] == 0
    assert len(rows) >= 2
    assert (np.diff(rows) > 0).all()
    assert rows[-1] < len(window[0])


@given(windows())
def test_every_row_is_accounted_for(window: Window) -> None:
    result = pruned(window)
    assert len(result.rows) + result.cut + result.loops + result.trimmed == len(window[0])
    assert min(result.cut, result.loops, result.trimmed) >= 0


@given(windows())
def test_pruning_again_changes_nothing(window: Window) -> None:
    once = again(window, pruned(window).rows)
    twice = pruned(once)
    assert twice.rows.tolist() == list(range(len(once[0])))


@given(windows())
def test_nothing_is_left_behind_the_first_end(window: Window) -> None:
    _, _, ended, _, _ = window
    transitions = pruned(window).rows[:-1]
    if ended.any():
        assert transitions[-1] <= np.argmax(ended)
        assert not ended[transitions[:-1]].any()


@given(windows())
def test_no_rewarded_row_is_removed(window: Window) -> None:
    """Before the first end, that is."""
    _, rewarded, ended, _, _ = window
    end = int(np.argmax(ended)) + 1 if ended.any() else len(ended)
    assert set(np.flatnonzero(rewarded[:end])) <= set(pruned(window).rows[:-1].tolist())


@given(windows())
def test_the_end_is_only_ever_lost_to_the_length(window: Window) -> None:
    """A loop's removal never takes the transition that ended the task."""
    _, _, ended, _, _ = window
    result = pruned(window)
    if ended.any() and not result.trimmed:
        assert ended[result.rows[-2]]


@given(windows())
def test_the_length_is_kept_to(window: Window) -> None:
    """No longer than estimated, but for the way to the last reward; and not shorter where there was more."""
    _, rewarded, _, length, config = window
    result = pruned(window)
    transitions = result.rows[:-1]
    if config.to_length:
        behind_last_reward = int(np.flatnonzero(rewarded[transitions]).max(initial=-1)) + 1
        assert len(transitions) <= max(1, length, behind_last_reward)
        if result.trimmed:
            assert len(transitions) == max(1, length, behind_last_reward)
    else:
        assert result.trimmed == 0


def creeping(rows: int = 80) -> Window:
    """So slow that every row has a twin ten rows on, which has one ten rows on, and so forth."""
    states = np.stack([0.04 * np.arange(rows), np.zeros(rows)], 1).astype(np.float32)
    return states, np.zeros(rows - 1, bool), np.zeros(rows - 1, bool), 99, PruneConfig()


@given(windows())
@example(creeping())
def test_no_jump_is_longer_than_the_longest_step(window: Window) -> None:
    states = window[0]
    rows = pruned(window).rows
    longest = np.linalg.norm(np.diff(states, axis=0), axis=1).max()
    assert np.linalg.norm(np.diff(states[rows], axis=0), axis=1).max() <= longest + 1e-6


@given(windows())
def test_where_loops_are_left_none_is_removed(window: Window) -> None:
    states, rewarded, ended, length, config = window
    result = prune(states, rewarded, ended, length, EPSILON, PruneConfig(loops=False, to_length=config.to_length))
    assert result.loops == 0
    assert result.rows.tolist() == list(range(len(result.rows)))


@given(windows())
def test_no_loop_is_left(window: Window) -> None:
    """Of two kept rows within epsilon, `minimum_loop_rows` or more apart and with no reward between, the step over them is too long."""
    states, rewarded, ended, _, config = window
    result = prune(states, rewarded, ended, 999, EPSILON, PruneConfig(minimum_loop_rows=config.minimum_loop_rows))
    kept = states[result.rows]
    needed = (rewarded | ended)[result.rows[:-1]]
    longest = np.linalg.norm(np.diff(states, axis=0), axis=1).max()
    for i in range(1, len(kept)):
        for j in range(i + config.minimum_loop_rows, len(kept)):
            if np.linalg.norm(kept[i] - kept[j]) <= EPSILON - 1e-6 and not needed[i:j].any():
                assert np.linalg.norm(kept[j] - kept[i - 1]) > longest - 1e-6


path_with_loops = st.lists(st.tuples(st.integers(1, 19), st.integers(4, 10)), min_size=1, max_size=4, unique_by=lambda loop: loop[0])


@given(path_with_loops)
def test_known_loops_are_removed_exactly(loops: list[tuple[int, int]]) -> None:
    """A straight way with detours that come back to where they left: what remains is the straight way, bit for bit."""
    straight = [(float(x), 0.0) for x in range(21)]
    states: list[tuple[float, float]] = []
    for x, point in enumerate(straight):
        states.append(point)
        for place, size in loops:
            if place == x:
                states += (
                    [(x, float(y)) for y in range(1, size + 1)]
                    + [(x + 0.5, float(size))]
                    + [(x + 0.5, float(y)) for y in range(size, 0, -1)]
                )
                states.append(point)
    window = np.asarray(states, np.float32)
    nothing = np.zeros(len(window) - 1, bool)
    result = prune(window, nothing, nothing, 999, 0.1, PruneConfig())
    assert window[result.rows].tolist() == [list(point) for point in straight]
    assert result.loops == len(window) - 21


def test_a_rewarded_detour_stays() -> None:
    out = [(x, 0.0) for x in range(5)] + [(4.0, y) for y in range(1, 6)] + [(4.0, y) for y in range(5, -1, -1)] + [(5.0, 0.0), (6.0, 0.0)]
    states = np.asarray(out, np.float32)
    rewarded, ended = np.zeros(len(states) - 1, bool), np.zeros(len(states) - 1, bool)
    removed = prune(states, rewarded, ended, 99, 0.1, PruneConfig()).loops
    rewarded[9] = True  # at the far end of the detour
    kept = prune(states, rewarded, ended, 99, 0.1, PruneConfig())
    assert removed > 0
    assert 9 in kept.rows


def test_epsilon_is_a_quantile_of_real_steps(offline: OfflineData, normalizer: Normalizer) -> None:
    distances = one_step_distances(offline, normalizer)
    steps = np.concatenate([np.linalg.norm(np.diff(normalizer.states(t.states), axis=0), axis=1) for t in offline.trajectories()])
    assert len(distances) == 101
    for quantile in (0.01, 0.5, 0.9, 1.0):
        assert loop_epsilon(distances, quantile) == pytest.approx(np.quantile(steps, quantile), rel=1e-4)
    assert loop_epsilon(distances, 0.505) == pytest.approx((distances[50] + distances[51]) / 2)


def test_cost_is_nearly_linear() -> None:
    """Eight times the rows cost about eight times as much; were it quadratic it would be 64."""

    def seconds(rows: int) -> float:
        states = np.cumsum(np.random.default_rng(0).standard_normal((rows, 3)), axis=0).astype(np.float32)
        states[-10] = states[0]  # one loop at least, or there would be nothing to walk over
        nothing = np.zeros(rows - 1, bool)
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            prune(states, nothing, nothing, rows, 0.2, PruneConfig())
            best = min(best, time.process_time() - began)
        return best

    assert seconds(8_000) < 24 * seconds(1_000)


def walked(states: Array, needed: BoolArray, minimum: int) -> list[int]:
    """The rows that a walk keeps which at each one jumps to the latest twin that it may, every distance measured."""
    last, kept, row = len(states) - 1, [0], 1
    distance = np.linalg.norm(states[:, None].astype(np.float64) - states, axis=-1)
    longest = max((distance[i, i + 1] for i in range(last)), default=0.0)
    while row <= last:
        limit = next((i for i in range(row, last) if needed[i]), last)
        twins = [i for i in range(row + minimum, limit + 1) if distance[row, i] <= EPSILON and distance[kept[-1], i] <= longest * (1 + 1e-6)]
        if last > minimum and twins:
            row = twins[-1]
            continue
        kept.append(row)
        row += 1
    return kept


@given(windows())
def test_loops_are_those_of_a_slow_walk(window: Window) -> None:
    states, rewarded, ended, _, config = window
    ends = np.flatnonzero(ended)
    used = int(ends[0]) + 2 if len(ends) else len(states)
    config = replace(config, loops=True, to_length=False)
    told = prune(states, rewarded, ended, 0, EPSILON, config).rows
    assert told.tolist() == walked(states[:used], (rewarded | ended)[: used - 1], config.minimum_loop_rows)
