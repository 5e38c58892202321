"""Processes that part from this one, and so need not import anything anew."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


def fork(work: Callable[[], int | None], log: Path | None = None) -> int:
    """A process that does the work and ends with the status that it returns, None being 0; returns its number. What it prints goes behind the `log`."""
    if (process := os.fork()) != 0:
        return process
    status = 1
    try:
        if log is not None:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        status = work() or 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
