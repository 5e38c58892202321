"""scale: whether the cost of a transition stays the same as the data, or the horizon, grows; if so, the rates of a job's rows are level."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from atradiff.bench import sampler, train
from atradiff.bench.data import HORIZON, converted
from atradiff.bench.measure import OURS, Bench, Contender, Contest, Row
from atradiff.bench.workload import NETWORKS, make_denoiser, make_gaussian, make_windows, walks
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import read_store, write_store
from atradiff.data.windows import Windows

SIZES = (100_000, 1_000_000)
HORIZONS = (32, 64, 128, 256)
BATCH = 64


def convert_growing(bench: Bench, sizes: Sequence[int] = SIZES) -> list[Row]:
    """Conversion, as in `data`, at several sizes."""
    return [row for size in sizes for row in converted(bench, size, f"scale/convert {size:,}")]


def load_growing(bench: Bench, sizes: Sequence[int] = SIZES, horizon: int = HORIZON) -> list[Row]:
    """Everything between the store and the first batch of windows, at several sizes."""
    result: list[Row] = []
    for size in sizes:
        with TemporaryDirectory() as folder:
            store = Path(folder) / "store.zarr"
            data = walks(size)
            write_store(store, data, {})

            def run(calls: int, store: Path = store) -> None:
                for _ in range(calls):
                    loaded = read_store(store)
                    Windows(loaded, horizon, Normalizer.of(loaded))

            contest = Contest(f"scale/load {size:,}", "transitions/s", data.num_transitions, [Contender(OURS, run, "cpu")])
            result += bench.measure(contest)
    return result


def horizons_growing(bench: Bench, horizons: Sequence[int] = HORIZONS) -> list[Row]:
    """Imagining with the tasks' default network, and its training, at several horizons; the unit is a row of a window."""
    result: list[Row] = []
    for horizon in horizons:
        windows = make_windows(horizon, bench.device)
        denoiser = make_denoiser(windows, make_gaussian(windows), NETWORKS["mlp"])
        for job, run in {"sampler": sampler.sampler_run(denoiser, BATCH), "train": train.train_run(denoiser, windows, BATCH)}.items():
            contest = Contest(f"scale/{job}, horizon {horizon}", "rows/s", BATCH * horizon, [Contender(OURS, run, bench.device)])
            result += bench.measure(contest)
    return result
