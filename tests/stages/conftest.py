from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from atradiff.stages import collect, convert, evaluate_synthesis, train_denoiser, train_length_estimator, train_reward_model
from projects import tiny_params, write_params


@pytest.fixture(autouse=True)
def _deterministic_algorithms_only_here() -> Iterator[None]:
    """Training stages switch them on for their process."""
    yield
    torch.set_deterministic_debug_mode("default")


@pytest.fixture(scope="session")
def params() -> Params:
    return tiny_params()


@pytest.fixture(scope="session")
def project(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """A project folder in which every stage has run once, with its own Minari folder. Read only."""
    root = tmp_path_factory.mktemp("project")
    layout = write_params(root, params)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root / "minari"))
        collect.run(params, layout)
        convert.run(params, layout)
        for horizon in params.denoiser.horizons:
            train_denoiser.run(params, layout, horizon)
        train_length_estimator.run(params, layout)
        train_reward_model.run(params, layout)
        evaluate_synthesis.run(params, layout)
        yield layout
