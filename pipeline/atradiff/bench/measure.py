"""How a job is measured: everybody does the same work in turn, several times over, and medians are compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

from atradiff.bench.machine import Machine, seconds

OURS, FLOOR = "atradiff", "floor"
PATIENCE = 10
"""Times as long as ours that a repeat of a peer's takes at most, if one call of it allows that."""


class Row(TypedDict):
    """One implementation's result. `ratio` is our median over its median (None for ourselves, and across devices)."""

    job: str
    impl: str
    device: str
    unit: str
    median: float
    min: float
    max: float
    ratio: float | None


@dataclass(frozen=True)
class Contender:
    """Who does the work: `run(calls)` makes so many calls and comes back when they are done."""

    impl: str
    run: Callable[[int], object]
    device: str


@dataclass(frozen=True)
class Contest:
    """A job that contenders do, ours first. One call does `units` of what `unit` counts; `floor_seconds` is the floor of one call."""

    job: str
    unit: str
    units: float
    contenders: Sequence[Contender]
    floor_seconds: float | None = None


@dataclass(frozen=True)
class Bench:
    """The measuring itself: how often, how long, on which machine, and whether the peers take part.

    `report` hears what is being measured.
    """

    machine: Machine
    repeats: int
    peers: bool
    repeat_seconds: float = 1.0
    report: Callable[[str], None] = lambda event: None

    @property
    def device(self) -> str:
        return self.machine.device

    def measure(self, contest: Contest) -> list[Row]:
        """Everybody warms up (and compiles); then, in every repeat, each does as many calls as we do in `repeat_seconds`, or, if that would take
        it more than `PATIENCE` times as long, as many as it does in that time.

        The order turns round from one repeat to the next, so that a disturbance which comes and goes hits all alike.
        """
        for contender in contest.contenders:
            self.report(f"{contest.job}: {contender.impl}, warming up")
            contender.run(1)
        ours, *theirs = contest.contenders
        full = self._calls(ours)
        calls = {ours.impl: full, **{peer.impl: self._at_most(full, peer) for peer in theirs}}
        rates: dict[str, list[float]] = {contender.impl: [] for contender in contest.contenders}
        for repeat in range(self.repeats):
            for contender in contest.contenders[:: 1 if repeat % 2 == 0 else -1]:
                self.report(f"{contest.job}: {contender.impl}")
                count = calls[contender.impl]
                taken = seconds(partial(contender.run, count), contender.device)
                rates[contender.impl].append(count * contest.units / taken)
        return rows(contest, rates, self.device)

    def _calls(self, contender: Contender) -> int:
        """As many calls as fill a repeat."""
        calls = 1
        while (taken := seconds(partial(contender.run, calls), contender.device)) < self.repeat_seconds / 4:
            calls *= 2
        return max(1, round(calls * self.repeat_seconds / taken))

    def _at_most(self, calls: int, contender: Contender) -> int:
        """So many calls, or fewer of one that is very slow."""
        taken = seconds(partial(contender.run, 1), contender.device)
        return max(1, min(calls, int(PATIENCE * self.repeat_seconds / taken)))


def rows(contest: Contest, rates: Mapping[str, Sequence[float]], device: str) -> list[Row]:
    """The rates of everybody as rows, ours first and the floor last."""
    ours = statistics.median(rates[contest.contenders[0].impl])
    result: list[Row] = []
    for contender in contest.contenders:
        values = rates[contender.impl]
        median = statistics.median(values)
        comparable = contender.impl != OURS and contender.device == device
        result.append(
            Row(
                job=contest.job,
                impl=contender.impl,
                device=contender.device,
                unit=contest.unit,
                median=median,
                min=min(values),
                max=max(values),
                ratio=ours / median if comparable else None,
            )
        )
    if contest.floor_seconds is not None:
        rate = contest.units / contest.floor_seconds
        result.append(
            Row(job=contest.job, impl=FLOOR, device=device, unit=contest.unit, median=rate, min=rate, max=rate, ratio=ours / rate)
        )
    return result
