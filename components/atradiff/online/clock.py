"""The clock of a run: where its seconds go, over all of its stops."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.autograd.profiler import record_function


class Clock:
    """Seconds in all and by `timers`; it goes on from what a checkpoint holds of it."""

    def __init__(self, timers: Sequence[str]) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(timers, 0.0)
        self._earlier = 0.0
        self.start()

    def start(self) -> None:
        """Count from here; what was waited for since the clock was made is left out."""
        self._began = time.perf_counter()

    @contextmanager
    def timed(self, name: str) -> Generator[None]:
        """Whatever is done inside belongs to that timer, also where it is broken off."""
        start = time.perf_counter()
        try:
            with record_function(name):  # a profile shows by whom operations were called
                yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self._earlier + time.perf_counter() - self._began

    def metrics(self) -> dict[str, float]:
        """For a line of metrics."""
        return {"time/seconds": self.total, **{f"time/{name}_seconds": seconds for name, seconds in self.seconds.items()}}

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": dict(self.seconds), "total_seconds": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds = dict(state["seconds"])
        self._earlier = float(state["total_seconds"])
        self.start()
