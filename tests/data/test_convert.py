"""From Minari to trajectories, and one clear sentence for each way in which a dataset can be bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari import MinariDataset
from minari.data_collector import EpisodeBuffer

import toys
from atradiff.data.convert import convert, dataset_fingerprint, draw_episodes, open_dataset
from atradiff.data.store import ARRAYS
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
    with pytest.raises(UserError, match=r"'toys/none-v0' is not on this machine: run `atradiff collect`"):
        open_dataset("toys/none-v0")
    make([episode(2)])
    (tmp_path / "toys" / "data-v0" / "data" / "metadata.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        open_dataset("toys/data-v0")


def test_fingerprint_is_of_the_data(make: Make) -> None:
    first, other = (make([episode(3), episode(n)], name=name) for name, n in (("a", 4), ("b", 5)))
    assert dataset_fingerprint(first) == dataset_fingerprint(open_dataset("toys/a-v0"))
    assert dataset_fingerprint(first) != dataset_fingerprint(other)
