"""What a stage tells while it goes on."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest
from rich.console import Console

from atradiff.stages.progress import Lines, track


def told(total: int, steps: Iterable[tuple[float, int, str]]) -> list[str]:
    """The lines of a log in which at each of `steps` (seconds, done, note) was reported."""
    now = 0.0
    log = io.StringIO()
    lines = Lines(Console(file=log), "collect", total, lambda: now)
    for now, done, note in steps:  # noqa: B007 - the clock reads it
        lines.advance(done, note)
    return log.getvalue().splitlines()


def test_a_log_hears_at_each_tenth_what_is_done_and_how_long_the_rest_takes() -> None:
    lines = told(200_000, [(second, 100 * second, "") for second in range(1, 2_001)])
    assert len(lines) == 10
    assert lines[0] == "collect: 10%, 20,000 of 200,000, 100/s, 0:30:00 left"
    assert lines[8] == "collect: 90%, 180,000 of 200,000, 100/s, 0:03:20 left"
    assert lines[9] == "collect: 200,000 in 0:33:20"


def test_the_time_left_follows_the_rate_since_the_line_before() -> None:
    """As an agent that teaches itself begins with steps that cost it nothing."""
    lines = told(1_000, [(20, 400, ""), (60, 600, "loss 0.5")])
    assert lines[1] == "collect: 60%, 600 of 1,000, 5/s, 0:01:20 left, loss 0.5"


def test_a_short_stage_has_one_line_though_it_tells_its_end_twice() -> None:
    steps = [(9.9 * done / 1_000, done, "return 1") for done in range(1_001)]
    assert told(1_000, [*steps, steps[-1]]) == ["collect: 1,000 in 0:00:10, return 1"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_is_for_those_who_watch(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("rich._console", Console(file=screen, force_terminal=terminal, width=80))
    with track("collect local/pointmaze/umaze-v0", 200_000) as advance:
        for done in (100_000, 200_000):
            advance(done, "return 0.99")
    assert ("200,000 in 0:00:00, return 0.99" in screen.getvalue()) is not terminal
    assert ("200000/200000" in screen.getvalue()) is terminal  # and not cut off, though the bar is not all there is
