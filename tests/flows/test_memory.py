"""What was freed goes back to the system, garbage is found soon, and SQLite is held to a few MiB."""

from __future__ import annotations

import ctypes
import sqlite3
import subprocess
import sys

import pytest

from atradiff.flows.memory import SQLITE_BYTES, limit_sqlite

HOLES = """
import time
import psutil
from atradiff.flows import memory

memory.GIVE_BACK_SECONDS = 0.1
resident = psutil.Process().memory_info
held = [bytes(8000) for _ in range(20_000)]
before = resident().rss
held = held[::100]
time.sleep(1)
kept = before - resident().rss
memory.keep_giving_back()
deadline = time.monotonic() + 60
while before - resident().rss < 100e6 and time.monotonic() < deadline:
    time.sleep(0.1)
print(kept, before - resident().rss)
"""

GARBAGE = """
import gc
import weakref
from collections import deque
from atradiff.flows.memory import collect_early

class Ring:
    def __init__(self):
        self.itself = self

lives = [[] for _ in range(500_000)]
gc.collect()
collect_early()
needed, seen = deque(maxlen=10_000), []
for _ in range(100_000):
    needed.append(Ring())
    seen.append(weakref.ref(needed[-1]))
print(sum(ring() is not None for ring in seen))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_what_was_freed_between_things_that_stay_is_given_back() -> None:
    """Of 160 MB, a hundredth stays."""
    process = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    kept_from, given_back = map(int, process.stdout.split())
    assert kept_from < 20e6
    assert given_back > 100e6


def test_garbage_is_found_soon_beside_much_that_lives() -> None:
    """Of 100,000 objects, each needed until 10,000 others have come; 42,000 are left if it is not asked for."""
    process = subprocess.run([sys.executable, "-c", GARBAGE], capture_output=True, text=True, check=True)
    assert int(process.stdout) < 25_000


def test_all_connections_to_sqlite_share_the_limit() -> None:
    with sqlite3.connect(":memory:") as connection:
        (before,) = connection.execute("PRAGMA soft_heap_limit").fetchone()
        limit_sqlite()
        assert connection.execute("PRAGMA soft_heap_limit").fetchone() == (SQLITE_BYTES,)
        connection.execute(f"PRAGMA soft_heap_limit = {before}")
    connection.close()
