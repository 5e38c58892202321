"""What makes a real trajectory important, and the bounded set of those that are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import toys
from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.sac import SAC
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.diffusion.denoiser import Denoiser
from atradiff.online.importance import PickedSet, curiosity_importance, reward_importance, td_error_importance, uniform_importance
from toys import rewarded_trajectory


def test_td_error_is_the_mean_over_n_step_targets() -> None:
    """One critic, no entropy in the backup, a policy without spread: the targets can be written out."""
    agent = SAC(toys.SPEC, AgentConfig(width=8, num_critics=1, num_min_critics=1, backup_entropy=False), toys.generator())
    with torch.no_grad():
        agent.actor.net.weights[-1][..., 2:].zero_()
        agent.actor.net.biases[-1][..., 2:].fill_(-20.0)
    for terminated in (True, False):
        trajectory = rewarded_trajectory([0.5, -1.0, 2.0, 1.0], terminated)
        observations = torch.from_numpy(trajectory.observations)
        errors = []
        with torch.no_grad():
            for t in range(4):
                end = min(t + 2, 4)
                value = 0.0
                if not (terminated and end == 4):
                    value = float(agent.critic(observations[end : end + 1], agent.actor.mode(observations[end : end + 1]))[0, 0])
                target = sum(0.9**k * float(trajectory.rewards[t + k]) for k in range(end - t)) + 0.9 ** (end - t) * value
                action = torch.from_numpy(trajectory.actions[t : t + 1])
                errors.append(abs(float(agent.critic(observations[t : t + 1], action)[0, 0]) - target))
        score = td_error_importance(agent, n_step=2, discount=0.9)(trajectory, toys.generator())
        assert score == pytest.approx(np.mean(errors), rel=1e-3)


def test_reward_importance_is_the_return() -> None:
    assert reward_importance()(rewarded_trajectory([0.5, 0.0, 2.0], True), toys.generator()) == 2.5


def test_uniform_importance_looks_at_nothing() -> None:
    score, random = uniform_importance(), toys.generator()
    scores = [score(rewarded_trajectory([float(i)], False), random) for i in range(200)]
    assert min(scores) < 0.1
    assert max(scores) > 0.9


def test_curiosity_is_about_what_the_data_does_not_explain(
    trained_denoisers: list[Denoiser], normalizer: Normalizer, held_out: OfflineData
) -> None:
    """The same walks under other physics (actions that do nothing of what they did) are more curious."""
    score = curiosity_importance(trained_denoisers[0], normalizer)
    known = [t for t in held_out.trajectories() if len(t) >= 6]
    strange = [replace(t, states=-t.states[::-1].copy()) for t in known]
    usual, unusual = ([score(t, toys.generator()) for t in part] for part in (known, strange))
    assert np.mean(unusual) > 1.2 * np.mean(usual)
    assert score(known[0], toys.generator()) == usual[0]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.integers(1, 8))
def test_without_random_drop_the_most_important_stay(scores: list[float], capacity: int) -> None:
    picked, random = PickedSet(capacity, random_drop=0.0), toys.generator()
    for score in scores:
        picked.add(rewarded_trajectory([score], False), score, random)
    assert len(picked) == min(capacity, len(scores))
    assert sorted(picked.scores) == sorted(scores)[-capacity:]
    assert [np.float32(s) for s in picked.scores] == [t.rewards[0] for t in picked.trajectories]


def test_random_drop_spares_nobody() -> None:
    """At 1 each of the four that are there, the new one too, goes a quarter of the time; at 0.2 the least goes in 0.8 + 0.05."""
    for random_drop, expected in ((1.0, [0.25] * 4), (0.2, [0.85, 0.05, 0.05, 0.05])):
        gone: Counter[float] = Counter()
        for seed in range(1_500):
            picked, random = PickedSet(3, random_drop), toys.generator(seed)
            for score in (1.0, 2.0, 3.0, 4.0):
                picked.add(rewarded_trajectory([score], False), score, random)
            (lost,) = {1.0, 2.0, 3.0, 4.0} - set(picked.scores)
            gone[lost] += 1
        assert [gone[s] / 1_500 for s in (1.0, 2.0, 3.0, 4.0)] == pytest.approx(expected, abs=0.04)


def test_state_dict_round_trip() -> None:
    picked, again, random = PickedSet(3, 0.1), PickedSet(3, 0.1), toys.generator()
    for score in (1.0, 3.0, 2.0):
        picked.add(rewarded_trajectory([score, 0.0], score > 1, first=int(score)), score, random)
    again.load_state_dict(picked.state_dict())
    assert again.scores == picked.scores
    for a, b in zip(again.trajectories, picked.trajectories, strict=True):
        assert all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("states", "actions", "rewards", "task"))
        assert (a.terminated, a.truncated) == (b.terminated, b.truncated)
