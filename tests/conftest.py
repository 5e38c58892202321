"""Fixtures that all rooms share: the toy environment, toy offline data, and models small enough to train in a moment."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import torch
from hypothesis import HealthCheck, settings

import toys
from atradiff.data.environment import TaskEnvironment
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.data.windows import Windows
from atradiff.diffusion.backbone import NetworkConfig
from atradiff.diffusion.denoiser import Denoiser, NoiseConfig, train_denoiser
from atradiff.diffusion.preconditioner import PreconditionerConfig
from atradiff.diffusion.training import TrainConfig, fit
from atradiff.project.layout import Layout
from atradiff.synthesis.length_estimator import EstimatorNetworkConfig, LengthEstimator, States
from projects import online_params, tiny_params, train_models, write_params

torch.set_num_threads(1)
settings.register_profile("tests", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
settings.load_profile("tests")
toys.register()


@pytest.fixture(autouse=True)
def tiny_numbers_stay() -> Generator[None]:
    """What a run in this process has asked of it does not go on into other tests: hypothesis wants numbers below float32's own form."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def offline() -> OfflineData:
    return toys.make_offline()


@pytest.fixture(scope="session")
def held_out() -> OfflineData:
    return toys.make_offline(episodes=12, seed=1)


@pytest.fixture(scope="session")
def normalizer(offline: OfflineData) -> Normalizer:
    return Normalizer.of(offline)


@pytest.fixture(scope="session")
def trained_denoisers(offline: OfflineData, normalizer: Normalizer) -> list[Denoiser]:
    """Denoisers of 8 and 16 rows. Copy before changing them."""
    return [
        train_denoiser(
            Windows(offline, horizon, normalizer),
            NetworkConfig(backbone="mlp", width=32, depth=1),
            PreconditionerConfig(width=16, gradient_steps=30, windows=1_000),
            NoiseConfig(),
            TrainConfig(gradient_steps=60, batch_size=64),
            toys.generator(),
            lambda progress: None,
        )
        for horizon in (8, 16)
    ]


@pytest.fixture(scope="session")
def trained_estimator(offline: OfflineData, normalizer: Normalizer) -> LengthEstimator:
    """A length estimator. Copy before changing it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        estimator = LengthEstimator(normalizer, EstimatorNetworkConfig(width=32, depth=2), scale=10.0)
    states = States(offline, normalizer)
    fit(estimator, lambda g: states.sample(64, g), TrainConfig(gradient_steps=200), toys.generator())
    return estimator


@pytest.fixture
def reach() -> TaskEnvironment:
    return TaskEnvironment(toys.REACH)


@pytest.fixture(scope="session")
def online_project(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A project folder with all that an online run needs. Runs may be added to it, its data is read only."""
    root = tmp_path_factory.mktemp("online")
    layout = write_params(root, online_params())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root / "minari"))
        train_models(tiny_params(), layout)  # collected in longer episodes than the run has
    torch.set_deterministic_debug_mode("default")  # training stages switch them on for their process
    return layout
