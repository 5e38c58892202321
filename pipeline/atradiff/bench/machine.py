"""What the machine itself can do: the floor under every job."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from atradiff import products

ATTEMPTS = 5
MATRIX_SIZES = {"cpu": 1_024, "cuda": 8_192}
COPIED_BYTES = {"cpu": 2**27, "cuda": 2**30}


@dataclass(frozen=True)
class Machine:
    """A device with its measured rates: of a large matrix product (float32 on a CPU, bfloat16 on a GPU), and of a large copy,
    whose bytes count twice, as read and as written."""

    device: str
    threads: int
    flops_per_second: float
    bytes_per_second: float

    def seconds(self, flops: float, moved_bytes: float) -> float:
        """The floor: nothing that computes and moves so much can be faster."""
        return max(flops / self.flops_per_second, moved_bytes / self.bytes_per_second)


def measure_machine(device: str) -> Machine:
    """The best of a few attempts at each rate, with the threads that torch has now."""
    size, count = MATRIX_SIZES[device], COPIED_BYTES[device]
    a, b = (torch.randn(size, size, device=device, dtype=torch.float32 if device == "cpu" else torch.bfloat16) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    with products.chosen(2 * size**3):
        flops = 2 * size**3 / _best_seconds(lambda: torch.mm(a, b, out=product), device)
    moved = 2 * count / _best_seconds(lambda: target.copy_(source), device)
    return Machine(device, torch.get_num_threads(), flops, moved)


def _best_seconds(work: Callable[[], object], device: str) -> float:
    work()
    return min(seconds(work, device) for _ in range(ATTEMPTS))


def seconds(work: Callable[[], object], device: str) -> float:
    """How long `work` takes until the device has finished it."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def limited_to(threads: int) -> Generator[None]:
    """So many threads for torch, and so many cores for everybody: JAX and MuJoCo take all that the process may use."""
    before = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set[int]()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # as runs do, and JAX
    if cores:
        os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)
        if cores:
            os.sched_setaffinity(0, cores)
