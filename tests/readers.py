"""The readers that strangers' files come to, as functions of bytes: each reads a good file of which a part is other bytes.

What a reader may do with them is to read them, or to refuse them in a sentence (`UserError`); everything else is a finding.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from minari import create_dataset_from_buffers
from minari.data_collector import EpisodeBuffer

import toys
from atradiff.data.convert import convert, open_dataset
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import ARRAYS, read_store, write_store
from atradiff.diffusion.backbone import NetworkConfig
from atradiff.diffusion.checkpoint import load_denoiser, save_denoiser
from atradiff.diffusion.denoiser import Denoiser, NoiseConfig
from atradiff.diffusion.preconditioner import ConditionalGaussian
from atradiff.errors import UserError
from atradiff.flows.checkpoints import Checkpoints
from atradiff.flows.run_folder import RunFolder
from atradiff.params.load import load_params

METRICS = b"""{"env_steps": 0, "eval/success_rate": null, "time/seconds": 1.5}
{"env_steps": 20, "eval/success_rate": 0.5, "time/seconds": 2e3}
"""
PARAMS = [
    b"task: {name: maze}\ndenoiser:\n  horizons: [8, 16]\n",
    b"task:\n  environment: {id: PointMaze_UMaze-v3, kwargs: {continuing_task: false}}\n",
    b"agent: {width: 16, tau: 1e-3}\n",
]
INDEX_BYTES = 20
"""At the end of a shard of one chunk: where it begins, how long it is, and the checksum of the two."""


class Part(NamedTuple):
    """What of a project may be other bytes: good ones, how others are put there, and the files that are then changed."""

    goods: list[bytes]
    put: Callable[[bytes], object]
    files: list[Path]


class Reader:
    """Reads a project in a folder, one part of which may be other bytes."""

    def __init__(self, parts: list[Part], read: Callable[[], object]) -> None:
        self._parts = parts
        self._read = read
        self._whole = {path: path.read_bytes() for part in parts for path in part.files}
        self._changed = parts[0]

    def __call__(self, content: bytes) -> bool:
        """Put the content, less its first byte, which says into which part, into place and read; returns whether it was read."""
        part = self._parts[content[0] % len(self._parts) if content else 0]
        if part is not self._changed:  # and else its files are overwritten anyway
            for path in self._changed.files:
                path.write_bytes(self._whole[path])
        self._changed = part
        part.put(content[1:])
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(None), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                self._read()
        except UserError:
            return False
        return True

    def seeds(self) -> list[bytes]:
        """The good contents themselves."""
        return [bytes([number]) + good for number, part in enumerate(self._parts) for good in part.goods]


def make_reader(name: str, folder: Path) -> Reader:
    """The reader of that name, one of `READERS`, with a good project in `folder`."""
    return READERS[name](folder)


def _file(path: Path) -> Part:
    return Part([path.read_bytes()], path.write_bytes, [path])


def _pickle(archive: Part) -> Part:
    """The pickle inside of an archive of torch's, in which the checksums are right, as a stranger would make them."""
    with zipfile.ZipFile(io.BytesIO(archive.goods[0])) as parts:
        contents = {name: parts.read(name) for name in parts.namelist()}
    pickled = next(name for name in contents if name.endswith("data.pkl"))

    def put_pickle(content: bytes) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as parts:
            for name, own in (contents | {pickled: content}).items():
                parts.writestr(name, own)
        archive.put(buffer.getvalue())

    return Part([contents[pickled]], put_pickle, archive.files)


def _signed(path: Path) -> Part:
    """A file of a checkpoint, of which the manifest tells the right checksum whatever it is."""
    manifest = path.parent / "manifest.json"
    told = json.loads(manifest.read_bytes())

    def put(content: bytes) -> None:
        path.write_bytes(content)
        manifest.write_text(json.dumps(told | {"sha256": told["sha256"] | {path.name: hashlib.sha256(content).hexdigest()}}))

    return Part([path.read_bytes()], put, [path, manifest])


def _checkpoint(folder: Path) -> Reader:
    normalizer = Normalizer.of(toys.make_offline(episodes=4))
    with torch.random.fork_rng(devices=[]):
        gaussian = ConditionalGaussian(4, normalizer.num_channels, 4, 8, 3)
        denoiser = Denoiser(normalizer, gaussian, 4, NetworkConfig(width=8, depth=1), NoiseConfig())
    save_denoiser(folder / "model.pt", denoiser, {"seed": 0})
    archive = _file(folder / "model.pt")
    return Reader([archive, _pickle(archive)], lambda: load_denoiser(folder / "model.pt"))


def _store(folder: Path) -> Reader:
    path = folder / "store.zarr"
    write_store(path, toys.make_offline(episodes=4), {})
    files = [_file(file) for file in sorted(path.rglob("*")) if file.is_file()]
    return Reader([*files, *(_summed(path, name) for name in ARRAYS)], lambda: read_store(path))


def _summed(store: Path, name: str) -> Part:
    """The bytes of an array's values, as many as it has, of which the store tells the right checksum whatever they are."""
    about = store / "zarr.json"
    told = json.loads(about.read_bytes())
    shard = next(path for path in (store / name / "c").rglob("*") if path.is_file())
    good, index = shard.read_bytes()[:-INDEX_BYTES], shard.read_bytes()[-INDEX_BYTES:]

    def put(content: bytes) -> None:
        values = content[: len(good)] + good[len(content) :]
        shard.write_bytes(values + index)
        attributes = told["attributes"] | {"crc32": told["attributes"]["crc32"] | {name: zlib.crc32(values)}}
        about.write_text(json.dumps(told | {"attributes": attributes}))

    return Part([good], put, [shard, about])


def _dataset(folder: Path) -> Reader:
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    ends = [False, False, True]
    states, actions = np.zeros((4, 2), np.float32), np.zeros((3, 2), np.float32)
    episode = EpisodeBuffer(observations=states, actions=actions, rewards=[0.0, 0.0, 1.0], terminations=ends, truncations=[False] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        create_dataset_from_buffers("fuzz/data-v0", [episode, episode], observation_space=toys.BOX2, action_space=toys.BOX2)
    data = folder / "fuzz" / "data-v0" / "data"
    files = [_file(data / "main_data.hdf5"), _file(data / "metadata.json")]
    return Reader(files, lambda: convert(open_dataset("fuzz/data-v0"), lambda number: None))


def _params(folder: Path) -> Reader:
    path = folder / "params.yaml"
    return Reader([Part(PARAMS, path.write_bytes, [])], lambda: load_params(path))


def _metrics(folder: Path) -> Reader:
    run = RunFolder(folder)
    run.metrics_file.write_bytes(METRICS)
    return Reader([_file(run.metrics_file)], run.metrics)


def _manifest(folder: Path) -> Reader:
    """A run's checkpoint: its manifest, its state, the pickle in that, and a segment of its replay; and what run.json says."""
    run = RunFolder(folder)
    (folder / "run.json").write_text('{"format": 1, "task": "maze", "arm": "atradiff", "seed": 0}')
    replay = {"rows": torch.zeros(6, 4), "added": 6, "settled": 5, "cleared": 0}
    state = {"env_steps": 6, "replay": {"online": replay, "synthetic": dict(replay)}}
    checkpoint = Checkpoints(run).write(6, state, None, keep=1)

    def read() -> None:
        run.about()
        Checkpoints(run).latest(lambda text: None)

    state, segments = _signed(checkpoint / "state.pt"), [_signed(path) for path in sorted(checkpoint.glob("*.rows"))]
    return Reader([_file(checkpoint / "manifest.json"), _file(folder / "run.json"), state, _pickle(state), *segments], read)


READERS = {
    "checkpoint": _checkpoint, "store": _store, "dataset": _dataset, "params": _params, "metrics": _metrics, "manifest": _manifest,
}  # fmt: skip
