"""Adaptation follows the online data, never touches the originals, and takes back what forgets the offline data."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import toys
from atradiff.data.hindsight import Hindsight, HindsightConfig
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.diffusion.denoiser import Denoiser
from atradiff.online.adaptation import AdaptationConfig, Adapter
from atradiff.online.windows import trajectory_windows
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.length_estimator import LengthEstimator
from atradiff.synthesis.synthesizer import SynthesisConfig, Synthesizer
from atradiff.trajectory import Trajectory

CONFIG = AdaptationConfig(gradient_steps=30, batch_size=32, learning_rate=1e-3, tolerance=1e9)


def digest(model: nn.Module) -> str:
    """A hash of every byte of a model's state."""
    content = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        content.update(name.encode() + value.numpy().tobytes())
    return content.hexdigest()


@pytest.fixture
def synthesizer(trained_denoisers: list[Denoiser], trained_estimator: LengthEstimator) -> Synthesizer:
    bank = DenoiserBank([copy.deepcopy(denoiser) for denoiser in trained_denoisers])
    return Synthesizer(bank, copy.deepcopy(trained_estimator), SynthesisConfig(), 0.1)


@pytest.fixture
def picked() -> list[Trajectory]:
    """Walks in a world where the same actions carry half as far."""
    walks = [toys.walk(np.random.default_rng(seed), 20) for seed in range(8)]
    return [replace(t, states=(t.states[:1] + (t.states - t.states[:1]) / 2)) for t in walks]


def adapter(synthesizer: Synthesizer, offline: OfflineData, held_out: OfflineData, config: AdaptationConfig = CONFIG) -> Adapter:
    return Adapter(synthesizer, offline, held_out, Hindsight(offline, (), HindsightConfig()), config, seed=0)


def test_originals_keep_every_byte(synthesizer: Synthesizer, offline: OfflineData, held_out: OfflineData, picked: list[Trajectory]) -> None:
    adapts = adapter(synthesizer, offline, held_out)
    before = {h: digest(d) for h, d in synthesizer.bank.original.items()}
    current = {h: digest(d) for h, d in synthesizer.bank.current.items()}
    estimator = digest(synthesizer.estimator)
    assert before == current
    results = adapts.adapt(picked, toys.generator())
    results += adapts.adapt(picked, toys.generator(1))
    assert {h: digest(d) for h, d in synthesizer.bank.original.items()} == before
    for horizon, denoiser in synthesizer.bank.current.items():
        assert digest(denoiser) != before[horizon]
        gaussians = denoiser.gaussian, synthesizer.bank.original[horizon].gaussian
        assert digest(gaussians[0]) == digest(gaussians[1])  # the preconditioner is not adapted
    assert digest(synthesizer.estimator) != estimator
    assert [r.model for r in results[:3]] == ["denoiser 8", "denoiser 16", "length estimator"]
    assert not any(r.rolled_back for r in results)
    assert synthesizer.adapted


def test_an_end_that_was_met_is_believed_from_then_on(
    synthesizer: Synthesizer, offline: OfflineData, held_out: OfflineData, picked: list[Trajectory]
) -> None:
    synthesizer.ends = False
    adapts = adapter(synthesizer, offline, held_out, replace(CONFIG, gradient_steps=1))
    cut = [replace(t, terminated=False, truncated=True) for t in picked]
    for met, expected in ((cut, False), ([*cut, replace(cut[0], terminated=True, truncated=False)], True), (cut, True)):
        adapts.adapt(met, toys.generator())
        assert synthesizer.ends == expected


def test_the_models_follow_the_picked_data(
    synthesizer: Synthesizer, offline: OfflineData, held_out: OfflineData, picked: list[Trajectory], normalizer: Normalizer
) -> None:
    config = replace(CONFIG, gradient_steps=150, learning_rate=3e-3, picked_share=0.75)
    adapter(synthesizer, offline, held_out, config).adapt(picked, toys.generator())
    for horizon in synthesizer.bank.horizons:
        windows = trajectory_windows(picked, horizon, normalizer)
        batch = windows.sample(256, toys.generator(2))
        with torch.no_grad():
            losses = [
                float(bank[horizon].loss(batch, toys.generator(3))[0]) for bank in (synthesizer.bank.current, synthesizer.bank.original)
            ]
        assert losses[0] < 0.95 * losses[1]


def test_an_adaptation_that_forgets_is_taken_back(
    synthesizer: Synthesizer, offline: OfflineData, held_out: OfflineData, picked: list[Trajectory]
) -> None:
    """Wild learning on strange data alone, at no tolerance: every model is as it was, bit for bit, and it is said why."""
    models = [*synthesizer.bank.current.values(), synthesizer.estimator]
    before = [digest(model) for model in models]
    config = replace(CONFIG, learning_rate=0.1, picked_share=1.0, tolerance=0.0)
    results = adapter(synthesizer, offline, held_out, config).adapt(picked, toys.generator())
    assert all(r.rolled_back for r in results)
    assert all(r.loss_after > r.loss_original for r in results)
    assert [digest(model) for model in models] == before


def test_an_adaptation_that_explodes_is_taken_back_too(
    synthesizer: Synthesizer, offline: OfflineData, held_out: OfflineData, picked: list[Trajectory]
) -> None:
    models = [*synthesizer.bank.current.values(), synthesizer.estimator]
    before = [digest(model) for model in models]
    results = adapter(synthesizer, offline, held_out, replace(CONFIG, learning_rate=1e30)).adapt(picked, toys.generator())
    assert all(r.rolled_back and r.loss_after == float("inf") for r in results)
    assert [digest(model) for model in models] == before
    assert not any(model.training for model in models)


def test_rollback_is_to_the_last_good_state_and_not_to_the_original(
    synthesizer: Synthesizer, offline: OfflineData, held_out: OfflineData, picked: list[Trajectory]
) -> None:
    adapter(synthesizer, offline, held_out).adapt(picked, toys.generator())
    after_good = {h: digest(d) for h, d in synthesizer.bank.current.items()}
    bad = replace(CONFIG, learning_rate=0.1, picked_share=1.0, tolerance=0.0)
    adapter(synthesizer, offline, held_out, bad).adapt(picked, toys.generator())
    assert {h: digest(d) for h, d in synthesizer.bank.current.items()} == after_good


def test_held_out_loss_is_the_same_question_every_time(
    synthesizer: Synthesizer, offline: OfflineData, held_out: OfflineData, picked: list[Trajectory]
) -> None:
    """Two adaptations compare with the same numbers of the same original; and what is reported is what the models then have."""
    adapts = adapter(synthesizer, offline, held_out)
    first, second = adapts.adapt(picked, toys.generator(1)), adapts.adapt(picked, toys.generator(2))
    assert [r.loss_original for r in first] == [r.loss_original for r in second]
    assert [r.loss_after for r in first] != [r.loss_after for r in second]
    fresh = adapter(synthesizer, offline, held_out)
    for result, (horizon, denoiser) in zip(second, synthesizer.bank.current.items(), strict=False):
        with torch.no_grad():
            assert fresh._denoising_loss(denoiser, fresh._held_out_windows(horizon)) == result.loss_after


def test_held_out_loss_is_about_held_out_data(
    synthesizer: Synthesizer, offline: OfflineData, held_out: OfflineData, picked: list[Trajectory]
) -> None:
    a = adapter(synthesizer, offline, held_out, replace(CONFIG, gradient_steps=1)).adapt(picked, toys.generator())
    b = adapter(synthesizer, offline, offline, replace(CONFIG, gradient_steps=1)).adapt(picked, toys.generator())
    assert a[0].loss_original != b[0].loss_original


def test_models_follow_what_hindsight_makes_of_the_picked_data(
    trained_denoisers: list[Denoiser], trained_estimator: LengthEstimator, offline: OfflineData, held_out: OfflineData, picked: list[Trajectory]
) -> None:
    """Adapting on the picked trajectories with their pieces is adapting on them and their pieces, the same ones for the same seed."""
    seen: list[OfflineData] = []

    class Recorded(Hindsight):
        def __call__(self, data: OfflineData, generator: np.random.Generator) -> OfflineData:
            seen.append(super().__call__(data, generator))
            return seen[-1]

    def adapted(trajectories: list[Trajectory], hindsight: Hindsight) -> list[str]:
        bank = DenoiserBank([copy.deepcopy(d) for d in trained_denoisers])
        one = Synthesizer(bank, copy.deepcopy(trained_estimator), SynthesisConfig(), 0.1)
        Adapter(one, offline, held_out, hindsight, replace(CONFIG, gradient_steps=3), seed=0).adapt(trajectories, toys.generator())
        return [digest(m) for m in (*bank.current.values(), one.estimator)]

    pieces, none = Recorded(offline, (0, 1), HindsightConfig(cover=2, maximum_steps=20)), Hindsight(offline, (), HindsightConfig())
    first, second = adapted(picked, pieces), adapted(picked, pieces)
    assert first == second == adapted(list(seen[0].trajectories()), none) != adapted(picked, none)
    assert np.array_equal(seen[0].states, seen[1].states)
    assert seen[0].num_transitions >= 3 * sum(len(t) for t in picked)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_batches_are_mixed_as_told(synthesizer: Synthesizer, offline: OfflineData, held_out: OfflineData, share: float) -> None:
    adapts = adapter(synthesizer, offline, held_out, replace(CONFIG, picked_share=share))
    counts: dict[str, int] = {}

    def source(name: str) -> object:
        def sample(count: int, generator: torch.Generator) -> tuple[torch.Tensor]:
            counts[name] = count
            return (torch.zeros(count),)

        return sample

    (mixed,) = adapts._mix(source("picked"), source("offline"), toys.generator())  # type: ignore[arg-type]
    assert len(mixed) == 32
    assert counts.get("picked", 0) == round(32 * share)


def test_adaptation_is_deterministic(
    trained_denoisers: list[Denoiser],
    trained_estimator: LengthEstimator,
    offline: OfflineData,
    held_out: OfflineData,
    picked: list[Trajectory],
) -> None:
    digests = []
    for _ in range(2):
        bank = DenoiserBank([copy.deepcopy(d) for d in trained_denoisers])
        one = Synthesizer(bank, copy.deepcopy(trained_estimator), SynthesisConfig(), 0.1)
        adapter(one, offline, held_out, replace(CONFIG, gradient_steps=3)).adapt(picked, toys.generator())
        digests.append([digest(m) for m in (*bank.current.values(), one.estimator)])
    assert digests[0] == digests[1]


@pytest.mark.parametrize(("explained", "expected"), [([1.0, 1.0], [0.5, 0.5]), ([1.0, 0.6], [0.5, 1.0]), ([0.6, 0.6], None)])
def test_an_actuator_has_changed_where_it_differs_by_more_than_is_unexplained(
    synthesizer: Synthesizer, offline: OfflineData, held_out: OfflineData, picked: list[Trajectory], explained: list[float], expected: list[float] | None
) -> None:
    adapts = adapter(synthesizer, offline, held_out)
    adapts._inverse = replace(adapts._inverse, explained=np.asarray(explained))
    assert adapts.measure_actuators(picked) == (expected is not None)
    assert (synthesizer.actuators is None) == (expected is None)
    if synthesizer.actuators is not None:
        np.testing.assert_allclose(synthesizer.actuators.strength, expected or [], rtol=0.15)
        assert not adapts.measure_actuators(picked)
