"""How often something is done that takes its time."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager


class Pace:
    """Says when it is due: first after some seconds, then again so that it takes `share` of the time at most, its first time aside."""

    def __init__(self, share: float, first_after: float = 0.0) -> None:
        self._share, self._due_at = share, time.monotonic() + first_after

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._due_at

    @contextmanager
    def kept(self) -> Generator[None]:
        """It is being done."""
        began = time.monotonic()
        yield
        self._due_at = began + (time.monotonic() - began) / self._share
