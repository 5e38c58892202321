"""data: windows served, datasets converted, memory taken. There is no peer; the floor is the copying of the bytes."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from atradiff.bench.measure import OURS, Bench, Contender, Contest, Row
from atradiff.bench.workload import action_box, walks
from atradiff.data.convert import convert, open_dataset
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import ARRAYS, OfflineData, read_store, write_store
from atradiff.data.windows import Windows

TRANSITIONS = 200_000
HORIZON = 128
BATCH = 256
DATASET = "bench/walks-v0"
PROCESS_STATUS = Path("/proc/self/status")


def windows_served(bench: Bench, transitions: int = TRANSITIONS, horizon: int = HORIZON) -> list[Row]:
    """Random windows gathered into a batch, as training draws them."""
    return _served(bench, "data/windows", walks(transitions), horizon)


def windows_mapped(bench: Bench, transitions: int = TRANSITIONS, horizon: int = HORIZON) -> list[Row]:
    """The same with the rows in mapped files, as those of a store larger than memory are; these fit in, once they have been read."""
    with TemporaryDirectory() as folder:
        store = Path(folder) / "store.zarr"
        write_store(store, walks(transitions), {})
        return _served(bench, "data/windows mapped", read_store(store, mapped=True), horizon)


def _served(bench: Bench, job: str, data: OfflineData, horizon: int) -> list[Row]:
    windows = Windows(data, horizon, Normalizer.of(data), bench.device)
    generator = torch.Generator().manual_seed(0)

    def run(calls: int) -> None:
        for _ in range(calls):
            windows.sample(BATCH, generator)

    moved = 2 * windows.sample(BATCH, generator).rows.nbytes
    contest = Contest(
        job, "windows/s", BATCH, [Contender(OURS, run, bench.device)], bench.machine.seconds(0, moved)
    )
    return bench.measure(contest)


def converted(bench: Bench, transitions: int = TRANSITIONS, job: str = "data/convert") -> list[Row]:
    """From a Minari dataset on disk to the store on disk: read, checked, flattened, written."""
    data = walks(transitions)
    with TemporaryDirectory() as folder, _minari_folder(folder):
        _write_dataset(data)
        dataset = open_dataset(DATASET)

        def run(calls: int) -> None:
            for _ in range(calls):
                write_store(Path(folder) / "store.zarr", convert(dataset, lambda episodes: None), {})

        floor = bench.machine.seconds(0, 2 * array_bytes(data)) if bench.device == "cpu" else None
        return bench.measure(Contest(job, "transitions/s", data.num_transitions, [Contender(OURS, run, "cpu")], floor))


def memory(bench: Bench, transitions: int = 50 * TRANSITIONS, horizon: int = HORIZON) -> list[Row]:
    """How much a process grows that reads a store and serves windows from it, in units of the store's arrays, each time anew.

    Only Linux tells a process's peak; elsewhere there are no such rows.
    """
    if not PROCESS_STATUS.exists():
        return []
    data = walks(transitions)
    result: list[Row] = []
    with TemporaryDirectory() as folder:
        store = Path(folder) / "store.zarr"
        write_store(store, data, {})
        grown: list[tuple[float, float]] = []
        for _ in range(bench.repeats):
            bench.report("data/memory")
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                grown.append(process.submit(grown_bytes, store, horizon).result())
    for name, values in zip(("at its peak", "while serving"), zip(*grown, strict=True), strict=True):
        ratios = sorted(value / array_bytes(data) for value in values)
        median = ratios[len(ratios) // 2]
        result.append(
            Row(job=f"data/memory {name}", impl=OURS, device="cpu", unit="x the arrays' bytes", median=median, min=ratios[0], max=ratios[-1], ratio=None)
        )
    return result


def grown_bytes(store: Path, horizon: int) -> tuple[float, float]:
    """Bytes by which this process grew, at its peak and in the end, after reading the store and serving a few windows."""
    generator = torch.Generator().manual_seed(0)
    before, _ = _resident_bytes()
    data = read_store(store)
    windows = Windows(data, horizon, Normalizer.of(data))
    del data
    for _ in range(10):
        windows.sample(BATCH, generator)
    now, peak = _resident_bytes()
    return peak - before, now - before


def _resident_bytes() -> tuple[float, float]:
    """What this process holds now and held at most, in one reading, so that the one is never above the other."""
    status = dict(line.split(":", 1) for line in PROCESS_STATUS.read_text().splitlines())
    now, peak = (float(status[field].split()[0]) * 1024 for field in ("VmRSS", "VmHWM"))
    return now, peak


def array_bytes(data: OfflineData) -> int:
    return sum(getattr(data, name).nbytes for name in ARRAYS)


@contextmanager
def _minari_folder(folder: str) -> Generator[None]:
    """Minari keeps its datasets in `folder` for a while."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = folder
    try:
        yield
    finally:
        del os.environ["MINARI_DATASETS_PATH"]
        if before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before


def _write_dataset(data: OfflineData) -> None:
    """`data` as a Minari dataset of a goal environment, as the tasks' own are."""
    import minari
    import numpy as np
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer

    buffers: list[EpisodeBuffer] = []
    for trajectory in data.trajectories():
        length = len(trajectory)
        goals = np.broadcast_to(trajectory.task, (length + 1, data.spec.task_dim)).copy()
        ends = np.arange(length) == length - 1
        buffers.append(
            EpisodeBuffer(
                observations={"observation": trajectory.states, "achieved_goal": trajectory.states[:, :2].copy(), "desired_goal": goals},
                actions=trajectory.actions,  # pyright: ignore
                rewards=list(trajectory.rewards.astype(float)),
                terminations=list(ends & trajectory.terminated),
                truncations=list(ends & trajectory.truncated),
            )
        )
    sizes = {"observation": data.spec.state_dim, "achieved_goal": data.spec.task_dim, "desired_goal": data.spec.task_dim}
    with warnings.catch_warnings():  # nobody will look for its author
        warnings.simplefilter("ignore", UserWarning)
        minari.create_dataset_from_buffers(
            DATASET,
            buffers,
            observation_space=spaces.Dict({name: spaces.Box(-np.inf, np.inf, (size,), np.float32) for name, size in sizes.items()}),
            action_space=action_box(data.spec),
        )
