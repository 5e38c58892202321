"""The share of storage that is imagined, and what a batch is made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import toys
from atradiff.errors import UserError
from atradiff.replay.buffer import Buffer
from atradiff.replay.mixed import MixedReplay, ReplayConfig, SynthesisTrigger
from toys import rewarded_trajectory

ENV_STEPS = 6_000


def run(
    ratio: float, length_at: Callable[[int], int], expected: float = 64.0, serve_every: int = 1, steps: int = ENV_STEPS
) -> SynthesisTrigger:
    """Ask after every step; serve what was asked for once `serve_every` requests are open, as the online loop does."""
    trigger, random = SynthesisTrigger(ratio, expected), toys.generator(0)
    waiting = 0
    for step in range(steps):
        waiting += trigger.step(random)
        if waiting >= serve_every or step == steps - 1:
            for _ in range(waiting):
                trigger.stored(length_at(step))
            waiting = 0
    return trigger


LENGTHS: dict[str, Callable[[int], int]] = {
    "fixed": lambda step: 30,
    "as expected": lambda step: 64,
    "one": lambda step: 1,
    "growing": lambda step: 5 + step // 200,
    "shrinking": lambda step: 65 - step // 200,
    "alternating": lambda step: 4 + 57 * (step // 50 % 2),
}


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_realised_share_is_within_one_percent(ratio: float, lengths: str) -> None:
    trigger = run(ratio, LENGTHS[lengths])
    assert trigger.transitions / (trigger.transitions + ENV_STEPS) == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("ratio", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_serving_in_batches_costs_the_share_nothing(ratio: float, lengths: str) -> None:
    steps = 12_000
    trigger = run(ratio, LENGTHS[lengths], serve_every=16, steps=steps)
    assert trigger.transitions / (trigger.transitions + steps) == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize(("ratio", "length"), [(0.5, 10.0), (0.8, 100.0), (0.9, 3.0)])
def test_trigger_probability_is_the_papers(ratio: float, length: float) -> None:
    trigger = SynthesisTrigger(ratio, length)
    assert trigger.trigger_probability == pytest.approx(ratio / ((1 - ratio) * length))
    assert trigger.mean_length == length
    trigger.step(toys.generator())
    trigger.stored(4)
    trigger.stored(8)
    assert trigger.mean_length == 6
    assert trigger.trigger_probability == pytest.approx(ratio / ((1 - ratio) * 6))


def test_the_rate_of_requests_is_p() -> None:
    """Also where p is above 1 and means several requests a step."""
    for ratio, length in ((0.5, 20), (0.9, 3)):
        trigger = run(ratio, lambda step, length=length: length, expected=length)
        assert trigger.trajectories / ENV_STEPS == pytest.approx(trigger.trigger_probability, rel=0.02)
    assert trigger.trigger_probability == pytest.approx(3.0)


def test_requests_are_spread_by_chance() -> None:
    """Where one falls is not to be known from the step's number: two seeds ask at different steps, and never in bursts."""
    asked = []
    for seed in (0, 1):
        trigger, random = SynthesisTrigger(0.5, 10.0), toys.generator(seed)
        counts = []
        for _ in range(1_000):
            counts.append(trigger.step(random))
            for _ in range(counts[-1]):
                trigger.stored(10)
        asked.append(counts)
    assert asked[0] != asked[1]
    assert max(max(counts) for counts in asked) == 1


def test_ratio_zero_never_asks() -> None:
    assert run(0.0, lambda step: 10).trajectories == 0


def test_trigger_resumes_where_it_was() -> None:
    def steps(trigger: SynthesisTrigger, random: torch.Generator, count: int) -> list[int]:
        counts = []
        for _ in range(count):
            counts.append(trigger.step(random))
            for _ in range(counts[-1]):
                trigger.stored(7)
        return counts

    straight, random = SynthesisTrigger(0.7, 20.0), toys.generator()
    steps(straight, random, 101)
    resumed, resumed_random = SynthesisTrigger(0.7, 20.0), toys.generator()
    resumed.load_state_dict(straight.state_dict())
    resumed_random.set_state(random.get_state())
    assert steps(straight, random, 50) == steps(resumed, resumed_random, 50)


def replay(online: int, synthetic: int, offline: int | None = None, **settings: object) -> MixedReplay:
    """Rewards tell where a transition is from: 1 online, 2 imagined, 3 offline."""
    config = ReplayConfig(n_step=1, **settings)  # type: ignore[arg-type]
    buffers = []
    for number, count in ((1.0, online), (2.0, synthetic), (3.0, offline)):
        buffer = Buffer(1_000, 4, 2, 1, 0.99)
        if count:
            buffer.add_trajectory(rewarded_trajectory([number] * count, False))
        buffers.append(buffer if count is not None else None)
    return MixedReplay(config, *buffers)


def shares(mixed: MixedReplay, batch_size: int, draws: int = 1, seed: int = 0) -> list[int]:
    """How many transitions of each source (online, imagined, offline) there are in `draws` batches."""
    random = toys.generator(seed)
    rewards = torch.cat([mixed.sample(batch_size, random).reward for _ in range(draws)])
    assert len(rewards) == batch_size * draws
    return torch.bincount(rewards.long(), minlength=4)[1:].tolist()


def test_split_counts_are_exact() -> None:
    assert shares(replay(50, 500, sampling="split", synthetic_batch_ratio=0.5), 128) == [64, 64, 0]
    assert shares(replay(50, 5, sampling="split", synthetic_batch_ratio=0.25), 128) == [96, 32, 0]
    assert shares(replay(50, 500, 90, sampling="split", synthetic_batch_ratio=0.25, offline_ratio=0.5), 128) == [32, 32, 64]


def test_union_is_uniform_over_both() -> None:
    online, synthetic, _ = shares(replay(100, 300, sampling="union"), 128, draws=200)
    assert synthetic / (online + synthetic) == pytest.approx(0.75, abs=0.01)


def test_offline_share_is_taken_before_the_union() -> None:
    online, synthetic, offline = shares(replay(100, 100, 50, sampling="union", offline_ratio=0.25), 128, draws=100)
    assert offline == 32 * 100
    assert synthetic / (online + synthetic) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("sampling", ["split", "union"])
def test_empty_sources_leave_their_share_to_the_others(sampling: str) -> None:
    assert shares(replay(10, 0, sampling=sampling), 32) == [32, 0, 0]
    assert shares(replay(0, 10, sampling=sampling), 32) == [0, 32, 0]
    assert shares(replay(0, 0, 10, sampling=sampling, offline_ratio=0.5, synthetic_batch_ratio=0.5), 32) == [0, 0, 32]
    with pytest.raises(ValueError, match="every replay source is empty"):
        replay(0, 0).sample(4, toys.generator())


@pytest.mark.parametrize("sampling", ["split", "union"])
@pytest.mark.parametrize("offline", [None, 40])
def test_beforehand_a_batch_is_drawn_as_if_there_were_nothing_online(sampling: str, offline: int | None) -> None:
    settings = {"sampling": sampling, "offline_ratio": 0.25 if offline else 0.0}
    for synthetic in (30, 0) if offline else (30,):
        with_real, without = replay(50, synthetic, offline, **settings), replay(0, synthetic, offline, **settings)
        ours, theirs = toys.generator(3), toys.generator(3)
        assert all(torch.equal(a, b) for a, b in zip(with_real.sample(64, ours, beforehand=True), without.sample(64, theirs), strict=True))
        assert torch.equal(ours.get_state(), theirs.get_state())


@pytest.mark.parametrize("sampling", ["split", "union"])
def test_ratio_zero_is_the_plain_agents_sampling_bit_for_bit(sampling: str) -> None:
    """With nothing imagined a batch is drawn as from the online buffer alone, and the generator is left in the same state."""
    mixed = replay(200, 0, sampling=sampling, synthetic_ratio=0.0)
    ours, plain = toys.generator(5), toys.generator(5)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(mixed.sample(64, ours), mixed.online.sample(64, plain), strict=True))
    assert torch.equal(ours.get_state(), plain.get_state())


def test_share_leaves_the_warm_start_out() -> None:
    mixed = replay(0, 0)
    assert mixed.synthetic_share == 0.0
    mixed.synthetic.add_trajectory(rewarded_trajectory([2.0] * 300, False))
    mixed.warm_start_transitions = 300
    mixed.online.add_trajectory(rewarded_trajectory([1.0] * 100, False))
    assert mixed.synthetic_share == 0.0
    mixed.synthetic.add_trajectory(rewarded_trajectory([2.0] * 100, False))
    assert mixed.synthetic_share == 0.5
    mixed.synthetic.add_trajectory(rewarded_trajectory([2.0] * 800, False))  # the ring of 1,000 has forgotten 200 of the warm start
    assert mixed.synthetic_share == pytest.approx(900 / 1_000)


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(UserError, match="there is no offline data"):
        replay(1, 1, offline_ratio=0.5)
    with pytest.raises(UserError, match="add up to more than 1"):
        replay(1, 1, 1, sampling="split", offline_ratio=0.75, synthetic_batch_ratio=0.5)


def test_state_dict_round_trip() -> None:
    mixed, other = replay(20, 30, 5, sampling="union", offline_ratio=0.2), replay(0, 0, 5, sampling="union", offline_ratio=0.2)
    mixed.warm_start_transitions = 7
    other.load_state_dict(mixed.state_dict())
    assert other.synthetic_share == mixed.synthetic_share
    assert all(torch.equal(a, b) for a, b in zip(mixed.sample(64, toys.generator()), other.sample(64, toys.generator()), strict=True))


def test_batches_are_float32_with_the_shapes_told() -> None:
    batch = replay(5, 5).sample(8, toys.generator())
    assert [tuple(field.shape) for field in batch] == [(8, 4), (8, 2), (8,), (8, 4), (8,), (8,)]
    assert all(field.dtype == torch.float32 for field in batch[:-1])
    assert np.isfinite(batch.observation.numpy()).all()


def test_every_part_of_a_batch_has_the_whole_batchs_mixture() -> None:
    """An update of several parts must not learn from one source after the other."""
    for part in replay(5, 5, 5, offline_ratio=0.25).sample(4 * 16, toys.generator()).deal(16):
        assert torch.bincount(part.reward.long(), minlength=4)[1:].tolist() == [4, 8, 4]
