"""Windows from a store larger than memory: `python tests/beyond_memory.py FOLDER` makes the store there, or takes the one that it finds, and serves.

Run it once as it is, then with less memory than the store has: in a container, or a control group of one's own, such as
`systemd-run --scope -p MemoryMax=350M python tests/beyond_memory.py FOLDER`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from atradiff.bench.train import train_run
from atradiff.bench.workload import NETWORKS, make_denoiser, make_gaussian, walks
from atradiff.data.memory import memory_bytes
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import read_store, write_store
from atradiff.data.windows import Windows
from atradiff.diffusion.training import TrainConfig

HORIZON = 128
BATCH = 256
"""Of windows served alone; a gradient step has `TrainConfig`'s own."""
MIB = 2**20


def rate(call: Callable[[], object], seconds: float) -> float:
    """Calls a second: the median of five, after a first measurement that does not count."""
    rates: list[float] = []
    for _ in range(6):
        start, count = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < seconds:
            call()
            count += 1
        rates.append(count / passed)
    return median(rates[1:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--transitions", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each of the five measurements")
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
    print(f"{BATCH * rate(lambda: windows.sample(BATCH, generator), arguments.seconds):,.0f} windows/s")
    batch = TrainConfig().batch_size
    run = train_run(make_denoiser(windows, make_gaussian(windows), NETWORKS["mlp"]), windows, batch)
    print(f"{rate(lambda: run(1), arguments.seconds):.1f} gradient steps/s of the default network, {batch} windows each")


if __name__ == "__main__":
    main()
