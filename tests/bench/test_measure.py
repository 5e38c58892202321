"""The measuring's arithmetic: medians, ratios, floors, and whose turn it is."""

from __future__ import annotations

import os
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atradiff.bench.machine import Machine, available_threads, limited_to, measure_machine
from atradiff.bench.measure import FLOOR, OURS, Bench, Contender, Contest, Row, rows

MACHINE = Machine("cpu", threads=1, flops_per_second=1e9, bytes_per_second=1e8)
KEYS = ["job", "impl", "device", "unit", "median", "min", "max", "ratio"]
RATES = st.lists(st.floats(1e-3, 1e9), min_size=3, max_size=3)


def contest(*impls: str, device: str = "cpu", floor_seconds: float | None = None) -> Contest:
    contenders = [Contender(impl, lambda calls: None, "cpu" if impl == OURS else device) for impl in impls]
    return Contest("room/job", "things/s", 10, contenders, floor_seconds)


def test_a_floor_is_what_takes_longer() -> None:
    assert MACHINE.seconds(1e9, 1e7) == 1.0
    assert MACHINE.seconds(1e7, 1e9) == 10.0


def test_a_row_has_median_spread_and_our_rate_over_its_own() -> None:
    ours, peer, floor = rows(contest(OURS, "peer", floor_seconds=0.5), {OURS: [2, 5, 4], "peer": [1, 3, 2]}, "cpu")
    assert ours == Row(job="room/job", impl=OURS, device="cpu", unit="things/s", median=4, min=2, max=5, ratio=None)
    assert peer == Row(job="room/job", impl="peer", device="cpu", unit="things/s", median=2, min=1, max=3, ratio=2.0)
    assert floor == Row(job="room/job", impl=FLOOR, device="cpu", unit="things/s", median=20, min=20, max=20, ratio=0.2)
    assert [list(row) for row in (ours, peer, floor)] == [KEYS] * 3


@given(RATES, RATES)
def test_a_ratio_turns_round_with_the_roles(ours: list[float], theirs: list[float]) -> None:
    there = rows(contest(OURS, "peer"), {OURS: ours, "peer": theirs}, "cpu")[1]
    back = rows(contest(OURS, "peer"), {OURS: theirs, "peer": ours}, "cpu")[1]
    assert there["ratio"] is not None
    assert back["ratio"] is not None
    assert there["ratio"] * back["ratio"] == pytest.approx(1.0)
    assert there["min"] <= there["median"] <= there["max"]


def test_devices_are_not_compared_with_each_other() -> None:
    assert rows(contest(OURS, "peer", device="cuda"), {OURS: [1.0], "peer": [1.0]}, "cpu")[1]["ratio"] is None


def test_all_do_the_same_calls_and_the_order_turns_round() -> None:
    heard: list[tuple[str, int]] = []
    contenders = [Contender(impl, lambda calls, impl=impl: heard.append((impl, calls)), "cpu") for impl in (OURS, "peer")]
    bench = Bench(MACHINE, repeats=3, peers=True, repeat_seconds=0.0)
    result = bench.measure(Contest("room/job", "things/s", 10, contenders))
    warm_up, trials, timed = heard[:2], heard[2:4], heard[4:]
    assert warm_up == trials == [(OURS, 1), ("peer", 1)]
    assert timed == [(OURS, 1), ("peer", 1), ("peer", 1), (OURS, 1), (OURS, 1), ("peer", 1)]
    assert [row["impl"] for row in result] == [OURS, "peer"]


def test_a_very_slow_peer_does_fewer_calls_and_its_rate_is_still_one_of_calls() -> None:
    heard: list[int] = []

    def slow(calls: int) -> None:
        heard.append(calls)
        time.sleep(0.02 * calls)

    bench = Bench(MACHINE, repeats=1, peers=True, repeat_seconds=0.01)
    contenders = [Contender(OURS, lambda calls: time.sleep(1e-4 * calls), "cpu"), Contender("peer", slow, "cpu")]
    _, peer = bench.measure(Contest("room/job", "things/s", 1, contenders))
    assert heard[:2] == [1, 1]
    assert 1 <= heard[2] <= 5  # and not the 100 or less that fill our repeat
    assert peer["median"] <= 50


def test_a_repeat_is_filled_with_calls() -> None:
    heard: list[int] = []

    def run(calls: int) -> None:
        heard.append(calls)
        time.sleep(calls / 1_000)

    bench = Bench(MACHINE, repeats=2, peers=False, repeat_seconds=0.05)
    bench.measure(Contest("room/job", "things/s", 1, [Contender(OURS, run, "cpu")]))
    assert heard[-1] == heard[-2] > 1


def test_threads_and_cores_are_given_back() -> None:
    before, cores = torch.get_num_threads(), available_threads()
    with limited_to(1):
        assert torch.get_num_threads() == 1
        assert available_threads() == 1 or not hasattr(os, "sched_setaffinity")
    assert (torch.get_num_threads(), available_threads()) == (before, cores)


def test_the_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atradiff.bench.machine.MATRIX_SIZES", {"cpu": 64})
    monkeypatch.setattr("atradiff.bench.machine.COPIED_BYTES", {"cpu": 2**16})
    machine = measure_machine("cpu")
    assert machine.device == "cpu"
    assert machine.flops_per_second > 0
    assert machine.bytes_per_second > 0
