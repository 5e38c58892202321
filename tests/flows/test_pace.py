"""What takes its time is not done too often."""

from __future__ import annotations

import time

import pytest

from atradiff.flows.pace import Pace


def test_it_takes_its_share_of_the_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace, done = Pace(0.1), 0
    for _ in range(1000):
        if pace.due:
            with pace.kept():
                now += 2.0
            done += 1
        now += 1.0
    assert done == pytest.approx(0.1 * (now - 100.0) / 2.0, abs=1)


def test_the_first_time_is_due() -> None:
    assert Pace(0.1).due


def test_the_first_time_can_be_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace(0.1, first_after=60.0)
    now = 159.0
    assert not pace.due
    now = 160.0
    assert pace.due
