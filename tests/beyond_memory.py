"""Windows from a store larger than memory: `python tests/beyond_memory.py FOLDER` makes the store there, or takes the one that it finds, and serves.

Run it once as it is, then with less memory than the store has: in a container, or a control group of one's own, such as
`systemd-run --scope -p MemoryMax=350M python tests/beyond_memory.py FOLDER`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from atradiff.bench.workload import walks
from atradiff.data.memory import memory_bytes
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import read_store, write_store
from atradiff.data.windows import Windows

HORIZON = 128
BATCH = 256
MIB = 2**20


def windows_per_second(windows: Windows, generator: torch.Generator, seconds: float) -> float:
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        windows.sample(BATCH, generator)
        count += BATCH
    return count / passed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--transitions", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each of the five measurements, before which there is one that does not count")
    parser.add_argument("--mapped", action="store_true", help="map the rows, though there is room for them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = arguments.folder / "store.zarr"
    if not store.exists():
        arguments.folder.mkdir(parents=True, exist_ok=True)
        write_store(store, walks(arguments.transitions), {})
    start = time.perf_counter()
    data = read_store(store, mapped=arguments.mapped or None)
    read = time.perf_counter()
    windows = Windows(data, HORIZON, Normalizer.of(data))
    made = time.perf_counter()
    where = "mapped" if isinstance(data.rows, np.memmap) else "in memory"
    print(f"{data.rows.nbytes / MIB:,.0f} MiB of rows, {memory_bytes() / MIB:,.0f} MiB of memory: {where}")
    del data
    print(f"read {read - start:.1f} s, windows made {made - read:.1f} s")
    generator = torch.Generator().manual_seed(0)
    _, *rates = (windows_per_second(windows, generator, arguments.seconds) for _ in range(6))
    print(f"{median(rates):,.0f} windows/s (median of {' '.join(f'{rate:,.0f}' for rate in rates)})")


if __name__ == "__main__":
    main()
