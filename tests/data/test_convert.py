"""From Minari to trajectories, and one clear sentence for each way in which a dataset can be bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import minari
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from minari import MinariDataset
from minari.data_collector import EpisodeBuffer

import toys
from atradiff.data.convert import convert, dataset_fingerprint, draw_episodes, open_dataset
from atradiff.data.counts import Counts
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import ARRAYS, read_store, write_store
from atradiff.data.windows import Windows
from atradiff.errors import UserError

# Minari asks for an author, a permalink and the like; a toy has none.
pytestmark = pytest.mark.filterwarnings("ignore:.* is set to None.*:UserWarning", "ignore:env_spec is None:UserWarning")

GOAL_SPACE = spaces.Dict({"observation": toys.BOX2, "achieved_goal": toys.BOX2, "desired_goal": toys.BOX2})
Make = Callable[..., MinariDataset]


def episode(steps: int, terminated: bool = False, goals: Any = (0.5, 0.5), **changes: Any) -> EpisodeBuffer:
    """States count up in hundredths; the goal is one for all rows, or given for each."""
    time = np.arange(steps + 1, dtype=np.float32)[:, None] / 100
    goal = np.broadcast_to(np.asarray(goals, np.float32), (steps + 1, 2))
    content: dict[str, Any] = {
        "observations": {"observation": np.hstack([time, -time]), "achieved_goal": np.hstack([time, -time]), "desired_goal": goal},
        "actions": np.hstack([time[:-1], 2 * time[:-1]]),
        "rewards": [float(terminated and t == steps - 1) for t in range(steps)],
        "terminations": [terminated and t == steps - 1 for t in range(steps)],
        "truncations": [not terminated and t == steps - 1 for t in range(steps)],
    }
    return EpisodeBuffer(**{**content, **changes})


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Write episodes as a real Minari dataset into a temporary folder."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))

    def dataset(
        episodes: list[EpisodeBuffer], observation_space: Any = GOAL_SPACE, action_space: Any = toys.BOX2, name: str = "data"
    ) -> MinariDataset:
        return minari.create_dataset_from_buffers(
            f"toys/{name}-v0", episodes, observation_space=observation_space, action_space=action_space
        )

    return dataset


def test_episodes_become_trajectories(make: Make) -> None:
    heard: list[int] = []
    data = convert(make([episode(3, True), episode(5), episode(1, True)]), heard.append)
    assert heard == [1, 2, 3]
    assert data.episode_lengths.tolist() == [3, 5, 1]
    assert data.episode_terminated.tolist() == [True, False, True]
    second = data.trajectory(1)
    assert np.allclose(second.states[:, 0], np.arange(6) / 100)
    assert np.allclose(second.actions[:, 1], 2 * np.arange(5) / 100)
    assert (second.terminated, second.truncated) == (False, True)
    assert np.allclose(second.task, 0.5)
    spec = data.spec
    assert (spec.state_dim, spec.action_dim, spec.task_dim) == (2, 2, 2)
    assert (spec.action_low, spec.action_high) == ((-1.0, -1.0), (1.0, 1.0))
    assert (spec.reward_values, spec.reward_minimum) == ((0.0, 1.0), 0.0)


def test_a_goal_that_changes_splits_the_episode(make: Make) -> None:
    """Each part is one task's trajectory; a part that only a new goal ended is truncated, whatever becomes of the episode."""
    goals = [(0.1, 0.1)] * 3 + [(0.2, 0.2)] * 4 + [(0.3, 0.3)]  # rows 0-2, 3-6, and the closing row, which is no transition's goal
    data = convert(make([episode(7, True, goals)]), lambda n: None)
    assert data.episode_lengths.tolist() == [3, 4]
    assert data.episode_terminated.tolist() == [False, True]
    assert np.allclose(data.tasks, [[0.1, 0.1], [0.2, 0.2]])
    first, second = data.trajectories()
    assert np.allclose(first.states[-1], second.states[0])
    assert second.rewards.tolist() == [0, 0, 0, 1]


def test_a_share_of_the_episodes(make: Make) -> None:
    """Smaller shares are parts of larger ones, the whole is everything in order, and two episodes are the least."""
    dataset = make([episode(n + 1) for n in range(20)])
    drawn = {share: draw_episodes(dataset, share).tolist() for share in (0.01, 0.1, 0.5, 1.0)}
    assert [len(ids) for ids in drawn.values()] == [2, 2, 10, 20]
    assert drawn[1.0] == list(range(20))
    assert set(drawn[0.1]) < set(drawn[0.5])
    assert drawn[0.5] not in (list(range(10)), list(range(10, 20)))
    data = convert(dataset, lambda n: None, draw_episodes(dataset, 0.5))
    assert data.episode_lengths.tolist() == [n + 1 for n in drawn[0.5]]


def test_what_is_read_here_is_what_minari_reads(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minari's HDF5 file is read without Minari; any other storage by its own hand."""
    dataset = make([episode(3, True), episode(5), episode(1, True)])
    ours = convert(dataset, lambda n: None, np.asarray([2, 0]))
    monkeypatch.setattr(type(dataset.storage), "FORMAT", "other")
    theirs = convert(dataset, lambda n: None, np.asarray([2, 0]))
    assert ours.spec == theirs.spec
    assert all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in ARRAYS)


def test_plain_observations_have_no_task(make: Make) -> None:
    box = spaces.Box(-1, 1, (3,), np.float32)
    observations = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    data = convert(make([episode(4, observations=observations)], box), lambda n: None)
    assert (data.spec.state_dim, data.spec.task_dim) == (3, 0)
    assert np.array_equal(data.trajectory(0).states, observations)


def test_many_reward_values_are_continuous(make: Make) -> None:
    data = convert(make([episode(9, rewards=[t / 10 for t in range(9)])]), lambda n: None)
    assert data.spec.reward_values == ()
    assert data.spec.reward_minimum == 0.0


def test_no_episodes(make: Make) -> None:
    empty = make([episode(2)]).filter_episodes(lambda e: False)
    with pytest.raises(UserError, match="'toys/data-v0' has no episodes"):
        convert(empty, lambda n: None)


@pytest.mark.parametrize("field", ["observations", "goals", "actions", "rewards"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(make: Make, field: str, value: float) -> None:
    bad = episode(5)
    where: dict[str, Any] = {"observations": bad.observations["observation"], "actions": bad.actions}  # type: ignore[index]
    if field == "goals":
        goals = np.full((6, 2), 0.5, np.float32)
        goals[3] = value
        bad.observations["desired_goal"] = goals  # type: ignore[index]
    elif field == "rewards":
        bad.rewards[3] = value  # type: ignore[index]
    else:
        where[field][3, 0] = value
    with pytest.raises(UserError, match=rf"episode 1 has NaN or infinity in {field} at step 3"):
        convert(make([episode(2), bad]), lambda n: None)


def test_terminated_in_the_middle(make: Make) -> None:
    bad = episode(5, terminations=[False, True, False, False, False])
    with pytest.raises(UserError, match="episode 0 is terminated at step 1 but goes on to 5"):
        convert(make([bad]), lambda n: None)


def test_truncated_in_the_middle(make: Make) -> None:
    bad = episode(5, truncations=[False, False, True, False, True])
    with pytest.raises(UserError, match="episode 1 is truncated at step 2 but goes on to 5"):
        convert(make([episode(2), bad]), lambda n: None)


def test_flags_of_other_lengths(make: Make) -> None:
    with pytest.raises(UserError, match="has 5 rewards, but tells of 3 steps whether it was terminated"):
        convert(make([episode(5, terminations=[False] * 3)]), lambda n: None)


def test_everything_is_counted(make: Make) -> None:
    told: list[Counts] = []
    both, neither = episode(4, True, truncations=[False] * 3 + [True]), episode(2, truncations=[False, False])
    wild = episode(3)
    wild.actions[1, 0] = 1.5  # type: ignore[index]
    wild.observations["observation"][2:, 1] = -1.00001  # type: ignore[index, call-overload]
    convert(make([episode(3, True), both, neither, wild]), lambda n: None, tell=told.append)
    assert told == [Counts(4, 12, terminated=2, truncated=2, both=1, neither=1, actions_beyond=1, states_beyond=0)]
    assert "1 both, 1 neither), 1 actions and 0 states beyond" in str(told[0])


def replace_field(dataset: MinariDataset, how: str, elsewhere: Path) -> None:
    """Let episode 1's rewards stand in another file, or claim what is in none."""
    with h5py.File(elsewhere, "w") as other:
        other["secret"] = np.zeros(5)
    elsewhere.with_suffix(".raw").write_bytes(bytes(40))
    with h5py.File(Path(str(dataset.storage.data_path)) / "main_data.hdf5", "a") as file:
        del file["episode_1/rewards"]
        match how:
            case "a link":
                file["episode_1/rewards"] = h5py.ExternalLink(str(elsewhere), "secret")
            case "a view":
                layout = h5py.VirtualLayout((5,), "f8")
                layout[:] = h5py.VirtualSource(str(elsewhere), "secret", (5,))
                file["episode_1"].create_virtual_dataset("rewards", layout)
            case "raw bytes":
                file["episode_1"].create_dataset("rewards", (5,), "f8", external=[(str(elsewhere.with_suffix(".raw")), 0, 40)])
            case _:
                file["episode_1"].create_dataset("rewards", (10**12,), "f8", chunks=(2**16,), compression="gzip")


@pytest.mark.parametrize("how", ["a link", "a view", "raw bytes", "a trillion rows"])
def test_data_that_is_elsewhere_or_nowhere(make: Make, tmp_path: Path, how: str) -> None:
    dataset = make([episode(3), episode(5)])
    replace_field(dataset, how, tmp_path / "elsewhere.hdf5")
    with pytest.raises(UserError, match=r"damaged \(.*(kept in another file|claims [\d,]+ bytes)"):
        convert(open_dataset(dataset.id), lambda n: None)


@pytest.mark.parametrize("name", ["../other/data-v0", "/etc/data-v0", "a/../../b-v0", "", "a//b-v0", "a\0-v0"])
def test_ids_are_no_paths(name: str) -> None:
    with pytest.raises(UserError, match="no id of a Minari dataset"):
        open_dataset(name)


def test_data_files_are_not_links(make: Make, tmp_path: Path) -> None:
    dataset = make([episode(3)])
    file = Path(str(dataset.storage.data_path)) / "main_data.hdf5"
    file.rename(tmp_path / "moved.hdf5")
    file.symlink_to(tmp_path / "moved.hdf5")
    with pytest.raises(UserError, match="leads out of"):
        open_dataset(dataset.id)


finite = st.floats(-1, 1, width=32)


@st.composite
def episodes(draw: st.DrawFn) -> EpisodeBuffer:
    """An episode of any numbers, which ends in any way and may change its goal on the way."""
    steps = draw(st.integers(1, 6))

    def rows(count: int) -> np.ndarray:
        return draw(arrays(np.float32, (count, 2), elements=finite))

    goals = rows(2)[draw(arrays(np.int64, steps + 1, elements=st.integers(0, 1)))]
    observations = {"observation": rows(steps + 1), "achieved_goal": rows(steps + 1), "desired_goal": goals}
    last = np.arange(steps) == steps - 1
    rewards = draw(arrays(np.float32, steps, elements=finite))
    return EpisodeBuffer(
        observations=observations,
        actions=rows(steps),
        rewards=list(rewards),
        terminations=list(last & draw(st.booleans())),
        truncations=list(last & draw(st.booleans())),
    )


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(episodes(), min_size=1, max_size=3))
def test_any_dataset_comes_back_through_minari_zarr_and_windows(make: Make, tmp_path: Path, written: list[EpisodeBuffer]) -> None:
    """Every number of every transition, in its order, its task and its end, and nothing else."""
    minari.delete_dataset("toys/any-v0") if "toys/any-v0" in minari.list_local_datasets() else None
    converted = convert(make(written, name="any"), lambda n: None)
    write_store(tmp_path / "store.zarr", converted, {})
    data = read_store(tmp_path / "store.zarr")
    normalizer = Normalizer.of(data)
    windows = Windows(data, 2, normalizer)
    trajectories = iter(data.trajectories())
    for whole in written:
        start, length = 0, len(whole.rewards)
        while start < length:
            part = next(trajectories)
            stop = start + len(part)
            assert np.array_equal(part.states, whole.observations["observation"][start : stop + 1])  # type: ignore[index, call-overload]
            assert np.array_equal(part.actions, whole.actions[start:stop])  # type: ignore[index]
            assert np.array_equal(part.rewards, np.float32(whole.rewards[start:stop]))
            assert (whole.observations["desired_goal"][start:stop] == part.task).all()  # type: ignore[index, call-overload]
            assert part.terminated == (bool(whole.terminations[-1]) and stop == length)
            start = stop
    assert next(trajectories, None) is None
    first = windows.at(torch.arange(len(windows))).rows[:, 0].numpy()
    states, actions, _ = normalizer.split(np.concatenate([first, np.zeros((len(first), 0), np.float32)], axis=1))
    assert len(first) >= data.num_transitions
    assert np.allclose(states, data.states[data.transition_rows()], atol=1e-5)
    assert np.allclose(actions, data.actions[data.transition_rows()], atol=1e-5)


@pytest.mark.parametrize("field", ["observations", "actions"])
def test_wrong_lengths(make: Make, field: str) -> None:
    bad = episode(5, **{field: getattr(episode(3), field)})
    with pytest.raises(UserError, match=r"episode 0 has 5 rewards, but observations or actions of other lengths"):
        convert(make([bad]), lambda n: None)


def test_discrete_actions(make: Make) -> None:
    with pytest.raises(UserError, match="only one-dimensional continuous"):
        convert(make([episode(2, actions=np.zeros(2, np.int64))], action_space=spaces.Discrete(3)), lambda n: None)


def test_unbounded_actions(make: Make) -> None:
    with pytest.raises(UserError, match="unbounded actions"):
        convert(make([episode(2)], action_space=spaces.Box(-np.inf, np.inf, (2,), np.float32)), lambda n: None)


def test_observations_that_are_not_boxes(make: Make) -> None:
    with pytest.raises(UserError, match="observation space Discrete is not supported"):
        convert(make([episode(2, observations=np.zeros(3, np.int64))], spaces.Discrete(3)), lambda n: None)


def test_an_episode_without_steps() -> None:
    """Minari does not write such a dataset, but reads one."""
    none = SimpleNamespace(id=0, observations=None, actions=[], rewards=[], terminations=[], truncations=[])
    dataset = SimpleNamespace(
        id="x",
        total_episodes=1,
        action_space=toys.BOX2,
        observation_space=GOAL_SPACE,
        storage=SimpleNamespace(FORMAT="arrow"),
        iterate_episodes=lambda ids: iter([none]),
    )
    with pytest.raises(UserError, match="episode 0 has no steps"):
        convert(dataset, lambda n: None)  # type: ignore[arg-type]


def test_missing_and_unreadable_datasets(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'toys/none-v0' is not on this machine: run `atradiff collect` if params.yaml names it"):
        open_dataset("toys/none-v0")
    make([episode(2)])
    (tmp_path / "toys" / "data-v0" / "data" / "metadata.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        open_dataset("toys/data-v0")


def test_fingerprint_is_of_the_data(make: Make) -> None:
    first, other = (make([episode(3), episode(n)], name=name) for name, n in (("a", 4), ("b", 5)))
    assert dataset_fingerprint(first) == dataset_fingerprint(open_dataset("toys/a-v0"))
    assert dataset_fingerprint(first) != dataset_fingerprint(other)
