"""One process a stage: a stage outlives the `dvc repro` that began it and was killed alone."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager

from atradiff.project.layout import Layout


@contextmanager
def alone(layout: Layout, stage: str) -> Generator[None]:
    """Wait for whoever carries out the same stage of the task; the lock on `data/TASK/STAGE.lock` is the system's and ends with its process.

    What an orphan still writes is so replaced by whoever comes later, and never the other way round.
    """
    layout.data.mkdir(parents=True, exist_ok=True)
    with (layout.data / f"{stage}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that is at {stage} of {layout.task}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
