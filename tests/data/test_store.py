"""The store: rows and episodes, the way there and back, and bytes that depend on nothing but the data."""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BloscShuffle

import toys
from atradiff.data.store import (
    ARRAYS,
    ROW_ARRAYS,
    OfflineData,
    concatenate,
    fetch,
    read_attributes,
    read_store,
    room_like,
    stack_trajectories,
    write_store,
)
from atradiff.errors import UserError
from atradiff.trajectory import Trajectory


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same(a: Trajectory, b: Trajectory) -> bool:
    arrays = all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("states", "actions", "rewards", "task"))
    return arrays and (a.terminated, a.truncated) == (b.terminated, b.truncated)


@pytest.fixture
def trajectories() -> list[Trajectory]:
    return [
        toys.line_trajectory(length, terminated, 100.0 * length) for length, terminated in ((3, True), (1, False), (7, True), (2, False))
    ]


def test_trajectories_come_back_from_their_rows(trajectories: list[Trajectory]) -> None:
    data = stack_trajectories(trajectories, toys.SPEC)
    assert all(same(a, b) for a, b in zip(trajectories, data.trajectories(), strict=True))
    assert data.num_transitions == 13
    assert data.episode_lengths.tolist() == [3, 1, 7, 2]
    assert data.episode_starts.tolist() == [0, 4, 6, 14]
    assert data.row_episodes().tolist() == [0] * 4 + [1] * 2 + [2] * 8 + [3] * 3
    closing = sorted(set(range(len(data.states))) - set(data.transition_rows().tolist()))
    assert closing == (data.episode_ends - 1).tolist()


def test_round_trip(tmp_path: Path, offline: OfflineData) -> None:
    write_store(tmp_path / "store.zarr", offline, {"dataset": "toy"})
    again = read_store(tmp_path / "store.zarr")
    assert again.spec == offline.spec
    for name in ARRAYS:
        assert np.array_equal(getattr(again, name), getattr(offline, name))
        assert getattr(again, name).dtype == getattr(offline, name).dtype
    assert read_attributes(tmp_path / "store.zarr")["dataset"] == "toy"
    assert [p.name for p in tmp_path.iterdir()] == ["store.zarr"]


def test_rewriting_gives_the_same_bytes(tmp_path: Path, offline: OfflineData) -> None:
    first, second = tmp_path / "first.zarr", tmp_path / "second.zarr"
    write_store(first, offline, {"dataset": "toy"})
    write_store(second, read_store(first), {"dataset": "toy"})
    before = contents(first)
    assert before == contents(second)
    write_store(first, offline, {"dataset": "toy"})
    assert contents(first) == before


def test_writing_over_a_larger_store_leaves_nothing_of_it(tmp_path: Path, offline: OfflineData, trajectories: list[Trajectory]) -> None:
    path, small = tmp_path / "store.zarr", stack_trajectories(trajectories, toys.SPEC)
    write_store(path, offline, {})
    (tmp_path / "store.zarr.writing").mkdir()  # as an interrupted run would leave it
    (tmp_path / "store.zarr.writing" / "half").write_text("")
    write_store(path, small, {})
    write_store(tmp_path / "fresh.zarr", small, {})
    assert contents(path) == contents(tmp_path / "fresh.zarr")


def test_task_free_data_has_a_store_too(tmp_path: Path) -> None:
    trajectory = replace(toys.line_trajectory(4, False), task=np.zeros(0, np.float32))
    data = stack_trajectories([trajectory, trajectory], replace(toys.SPEC, task_dim=0))
    write_store(tmp_path / "store.zarr", data, {})
    assert same(read_store(tmp_path / "store.zarr").trajectory(1), trajectory)


def test_unreadable_stores(tmp_path: Path, offline: OfflineData) -> None:
    path = tmp_path / "store.zarr"
    with pytest.raises(UserError, match=r"no Zarr store at .*convert"):
        read_store(path)
    write_store(path, offline, {})
    metadata = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(metadata.replace('"format": 3', '"format": 2'))
    with pytest.raises(UserError, match=r"has format 2, this version reads 3: run `dvc repro` to make it again"):
        read_store(path)
    (path / "zarr.json").write_text(metadata[: len(metadata) // 2])
    with pytest.raises(UserError, match="no Zarr store"):
        read_store(path)


def rewrite(path: Path, **attributes: Any) -> None:
    """Change what the store says of itself."""
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"] |= attributes
    (path / "zarr.json").write_text(json.dumps(metadata))


def claim(path: Path, array: str, **metadata: Any) -> None:
    file = path / array / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | metadata))


@pytest.fixture
def stored(tmp_path: Path, offline: OfflineData) -> Path:
    write_store(tmp_path / "store.zarr", offline, {})
    return tmp_path / "store.zarr"


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_file_that_was_damaged_is_named(stored: Path, offline: OfflineData, name: str, how: str) -> None:
    """Zarr takes a file that is missing for zeros, and finds a bit that fell over in an index alone."""
    shard = next(path for path in (stored / name / "c").rglob("*") if path.is_file())
    if how == "missing":
        shard.unlink()
    else:
        field = "rows" if name in ROW_ARRAYS else name
        values = getattr(offline, field)
        other = replace(offline, **{field: np.asarray(1 - values, values.dtype)})
        write_store(stored.with_name("other.zarr"), other, {})
        shard.write_bytes((stored.with_name("other.zarr") / shard.relative_to(stored)).read_bytes())
    with pytest.raises(UserError, match=rf"damaged \(the checksum of {name} is another\): run `atradiff convert`"):
        read_store(stored)


def test_a_store_that_claims_more_than_it_has_is_refused_before_memory_is_taken(stored: Path) -> None:
    for name, columns in (("states", [2]), ("actions", [2]), ("rewards", [])):
        metadata = json.loads((stored / name / "zarr.json").read_text())
        metadata["shape"] = [10**12, *columns]
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = [262_144, *columns]
        metadata["codecs"][0]["configuration"]["chunk_shape"] = [16_384, *columns]
        (stored / name / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(UserError, match=r"1,000,000,000,000 rows are claimed, and its files have [\d,]+ bytes"):
        read_store(stored)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: claim(path, "states", shape=[10**6, 2]),
        lambda path: claim(path, "rewards", data_type="float64"),
        lambda path: claim(path, "tasks", codecs=[{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}]),
        lambda path: claim(path, "rewards", shape=["many"]),
        lambda path: rewrite(path, spec={}),
        lambda path: rewrite(path, crc32={}),
        lambda path: rewrite(path, crc32=[1]),
        lambda path: (path / "states" / "zarr.json").write_text("[" * 100_000),
        lambda path: (path / "states" / "zarr.json").unlink(),
        lambda path: (path / "rewards" / "c" / "0").write_bytes(b"x" * 300),
        lambda path: (path / "tasks" / "c" / "0" / "0").write_bytes(b""),
    ],
)
def test_hostile_stores(stored: Path, change: Callable[[Path], None]) -> None:
    change(stored)
    with pytest.raises(UserError, match=r"is damaged \(.*\): run `atradiff convert`"):
        read_store(stored)


def test_what_crashes_a_decoder_is_never_unpacked(stored: Path, offline: OfflineData) -> None:
    """A Blosc frame that says it is long, and that its only block begins far behind its end, leads numcodecs' decoder out of its memory.
    The array is laid out as all were in format 2, whose reader ended there by a signal, hence a process of its own."""
    values = offline.rewards
    codec = BloscCodec(cname="zstd", clevel=5, shuffle=BloscShuffle.bitshuffle)
    group, size, everything = zarr.open_group(stored), values.shape, cast("Any", {"write_empty_chunks": True})
    array = group.create_array(
        "rewards", shape=size, dtype=values.dtype, chunks=size, shards=size, compressors=[codec], config=everything, overwrite=True
    )
    array[...] = values
    shard = stored / "rewards" / "c" / "0"
    frame = bytearray(shard.read_bytes())
    frame[12:20] = (2**31 - 1).to_bytes(4, "little") + (0x7000_0000).to_bytes(4, "little")
    shard.write_bytes(frame)
    code = "import sys; from pathlib import Path; from atradiff.data.store import read_store; read_store(Path(sys.argv[1]))"
    reader = subprocess.run([sys.executable, "-c", code, str(stored)], capture_output=True, text=True, check=False)
    assert reader.returncode == 1, f"ended by signal {-reader.returncode}"
    assert "UserError" in reader.stderr
    assert "rewards is laid out otherwise than" in reader.stderr


def test_links_that_lead_out_of_a_store(stored: Path) -> None:
    shard = stored / "rewards" / "c" / "0"
    shard.rename(stored.with_name("elsewhere"))
    shard.symlink_to(stored.with_name("elsewhere"))
    with pytest.raises(UserError, match="leads out of"):
        read_store(stored)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: replace(d, rows=np.where(np.arange(len(d.rows))[:, None] == 7, np.float32(np.nan), d.rows)), "NaN or infinity in row 7"),
        (lambda d: replace(d, tasks=d.tasks + np.float32(np.inf)), "in the task of episode 0"),
        (lambda d: replace(d, episode_ends=d.episode_ends[::-1].copy()), "do not lie behind one another"),
        (lambda d: replace(d, episode_ends=d.episode_ends + 1), "do not lie behind one another"),
        (lambda d: replace(d, spec=replace(d.spec, action_low=(0.0,))), "actions' ranges"),
    ],
)
def test_whole_files_with_content_that_cannot_be(tmp_path: Path, offline: OfflineData, change: Callable[[OfflineData], OfflineData], why: str) -> None:
    write_store(tmp_path / "store.zarr", change(offline), {})
    with pytest.raises(UserError, match=why):
        read_store(tmp_path / "store.zarr")


def test_split_is_by_episodes_and_the_generators(offline: OfflineData) -> None:
    kept, held_out = offline.split(0.1, np.random.default_rng(0))
    assert held_out.num_episodes == 6
    assert kept.num_episodes == 54
    firsts = {tuple(t.states[0]) for t in kept.trajectories()} | {tuple(t.states[0]) for t in held_out.trajectories()}
    assert firsts == {tuple(t.states[0]) for t in offline.trajectories()}
    again = offline.split(0.1, np.random.default_rng(0))[1]
    assert np.array_equal(held_out.states, again.states)


@given(st.lists(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=4), min_size=1, max_size=4))
def test_concatenated_parts_are_their_episodes_in_order(lengths: list[list[tuple[int, bool]]]) -> None:
    """As if all had been laid out at once, row for row."""
    parts = [[toys.line_trajectory(n, end, 10.0 * i + j) for j, (n, end) in enumerate(part)] for i, part in enumerate(lengths)]
    joined = concatenate([stack_trajectories(part, toys.SPEC) for part in parts])
    whole = stack_trajectories([trajectory for part in parts for trajectory in part], toys.SPEC)
    assert joined.spec == whole.spec
    assert all(np.array_equal(getattr(joined, name), getattr(whole, name)) for name in ARRAYS)


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_both_parts_have_an_episode(trajectories: list[Trajectory], share: float) -> None:
    kept, held_out = stack_trajectories(trajectories, toys.SPEC).split(share, np.random.default_rng(0))
    assert kept.num_episodes >= 1
    assert held_out.num_episodes >= 1
    assert kept.num_episodes + held_out.num_episodes == 4


def test_one_episode_cannot_be_split(trajectories: list[Trajectory]) -> None:
    with pytest.raises(UserError, match="at least 2"):
        stack_trajectories(trajectories[:1], toys.SPEC).split(0.5, np.random.default_rng(0))


def test_fetched_pages_are_those_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = room_like(np.memmap(tmp_path / "other", np.float32, "w+", shape=(1, 1)), (5_000, 7))
    assert isinstance(rows, np.memmap)
    advised: list[tuple[int, int, int]] = []

    class Mapping:
        def madvise(self, *advice: int) -> None:
            advised.append(cast("tuple[int, int, int]", advice))

    random = np.random.default_rng(0)
    starts = np.concatenate([[0, 4_999], random.integers(5_000, size=50)]).astype(np.int32)
    ends = np.minimum(starts + random.integers(1, 400, len(starts)), 5_000).astype(np.int32)
    fetch(rows, starts, ends)  # the system takes the advice
    monkeypatch.setattr("atradiff.data.store._mapping", lambda _: Mapping())
    fetch(rows, starts, ends)
    for start, end, (what, place, size) in zip(starts, ends, advised, strict=True):
        assert what == mmap.MADV_WILLNEED
        assert place % mmap.PAGESIZE == 0
        assert start * 28 - mmap.PAGESIZE < place <= start * 28
        assert place + size == end * 28
