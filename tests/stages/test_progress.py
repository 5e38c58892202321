"""What a stage tells while it goes on."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest
from rich.console import Console

from atradiff.stages import progress
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
    assert len(lines) == 9  # the tenth is the bar's
    assert lines[0] == "collect: 10%, 20,000 of 200,000, 100/s, 0:30:00 left"
    assert lines[8] == "collect: 90%, 180,000 of 200,000, 100/s, 0:03:20 left"


def test_the_time_left_follows_the_rate_since_the_line_before() -> None:
    """As an agent that teaches itself begins with steps that cost it nothing."""
    lines = told(1_000, [(20, 400, ""), (60, 600, "loss 0.5")])
    assert lines[1] == "collect: 60%, 600 of 1,000, 5/s, 0:01:20 left, loss 0.5"


def test_a_short_stage_fills_no_log() -> None:
    assert told(1_000, [(9.9 * done / 1_000, done, "") for done in range(1_001)]) == []


@pytest.mark.parametrize(("terminal", "lines"), [(False, 2), (True, 0)])
def test_where_someone_watches_the_bar_is_enough(monkeypatch: pytest.MonkeyPatch, terminal: bool, lines: int) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("rich._console", Console(file=screen, force_terminal=terminal, width=80))
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with track("collect it", 3) as advance:
        for done in range(4):
            advance(done)
    assert screen.getvalue().count(" left") == lines
    assert "3/3" in screen.getvalue()
