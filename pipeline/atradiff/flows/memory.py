"""What a process that lives long holds of memory without need."""

from __future__ import annotations

import ctypes
import gc
import sqlite3
import threading
import time

GIVE_BACK_SECONDS = 10.0
SQLITE_BYTES = 4 << 20


def keep_giving_back() -> None:
    """Give back every few seconds, as long as this process lives."""
    threading.Thread(target=_give_back_for_ever, daemon=True).start()


def _give_back_for_ever() -> None:
    while True:
        time.sleep(GIVE_BACK_SECONDS)
        give_back()


def give_back() -> None:
    """Memory that was freed goes back to the system where the C library is glibc, which else keeps what lies between things that stay."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def collect_early() -> None:
    """From now on Python looks for garbage without regard to what lives now. Else it waits until a quarter of that has come in addition, and beside
    torch, Prefect and matplotlib that is a hundred thousand objects of figures long drawn."""
    gc.freeze()
    gc.collect()  # and so counts what lives beside


def limit_sqlite() -> None:
    """From now on this process's connections to SQLite share a cache of a few MiB; Prefect allows each 80 MB. The system keeps the file in memory
    as far as it has room."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f"PRAGMA soft_heap_limit = {SQLITE_BYTES}")
    connection.close()
