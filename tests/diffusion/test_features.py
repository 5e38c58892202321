"""Fourier features: a fixed random map whose inner products depend on differences only, kept with the model that has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import toys
from atradiff.diffusion.checkpoint import load_denoiser, save_denoiser
from atradiff.diffusion.denoiser import Denoiser
from atradiff.diffusion.features import FREQUENCIES, SCALE, FourierFeatures


def features(dim: int, seed: int = 0) -> FourierFeatures:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FourierFeatures(dim)


@given(st.integers(1, 6), st.integers(1, 9))
def test_the_condition_comes_first_and_waves_behind_it(dim: int, batch: int) -> None:
    condition = torch.randn(batch, dim, generator=toys.generator())
    made = features(dim)
    values = made(condition)
    assert values.shape == (batch, made.size) == (batch, dim + 2 * FREQUENCIES)
    assert torch.equal(values[:, :dim], condition)
    cosines, sines = values[:, dim:].split(FREQUENCIES, dim=1)
    assert torch.allclose(cosines.square() + sines.square(), torch.ones(()), atol=1e-5)
    assert torch.equal(made(torch.zeros(1, dim))[0, dim:], torch.cat([torch.ones(FREQUENCIES), torch.zeros(FREQUENCIES)]))


@given(st.integers(1, 4), st.integers(0, 1000))
def test_likeness_is_of_differences(dim: int, seed: int) -> None:
    """Moving two conditions by the same amount leaves their waves' inner product (Rahimi and Recht 2007)."""
    made, (a, b, shift) = features(dim), torch.randn(3, 1, dim, generator=toys.generator(seed))

    def likeness(x: Tensor, y: Tensor) -> Tensor:
        return (made(x)[:, dim:] * made(y)[:, dim:]).sum()

    assert torch.allclose(likeness(a, b), likeness(a + shift, b + shift), atol=1e-3)


def test_likeness_falls_off_as_a_gaussian_of_the_scale() -> None:
    made = features(1)
    far = torch.linspace(0, 3, 7)[:, None]
    likeness = made(far)[:, 1:] @ made(torch.zeros(1, 1))[0, 1:] / FREQUENCIES
    assert torch.allclose(likeness, torch.exp(-(SCALE**2) * far[:, 0].square() / 2), atol=0.3)


def test_the_seed_decides_the_frequencies() -> None:
    assert torch.equal(features(3, 1).frequencies, features(3, 1).frequencies)
    assert not torch.equal(features(3, 1).frequencies, features(3, 2).frequencies)


def test_frequencies_are_not_learned() -> None:
    assert list(features(3).parameters()) == []


@pytest.mark.parametrize("seed", [1, 2])
def test_a_denoiser_keeps_its_frequencies(tmp_path: Path, trained_denoisers: list[Denoiser], seed: int) -> None:
    """Whatever the seed is when it is loaded: its network's and its Gaussian's."""
    save_denoiser(tmp_path / "model.pt", trained_denoisers[0], {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded = load_denoiser(tmp_path / "model.pt")
    kept, found = (
        [module.frequencies for module in model.modules() if isinstance(module, FourierFeatures)] for model in (trained_denoisers[0], loaded)
    )
    assert len(kept) == 2
    assert all(torch.equal(a, b) for a, b in zip(kept, found, strict=True))
