"""The store: rows and episodes, the way there and back, and bytes that depend on nothing but the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toys
from atradiff.data.store import ARRAYS, OfflineData, concatenate, read_attributes, read_store, stack_trajectories, write_store
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
    from dataclasses import replace

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
    (path / "zarr.json").write_text(metadata.replace('"format": 1', '"format": 99'))
    with pytest.raises(UserError, match="format 99"):
        read_store(path)
    (path / "zarr.json").write_text(metadata[: len(metadata) // 2])
    with pytest.raises(UserError, match="no Zarr store"):
        read_store(path)


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
