"""A project folder small enough to run all of its stages in a moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from atradiff.params.presets import preset
from atradiff.params.render import render_yaml
from atradiff.params.schema import Params
from atradiff.project.layout import PARAMS_FILE, Layout

ROOT = Path(__file__).parent.parent
DATASET = "local/tiny/umaze-v0"


def tiny_params() -> Params:
    """The default task with a few episodes, two short horizons and a few gradient steps."""
    p = preset("pointmaze-umaze")
    train = replace(p.denoiser.train, gradient_steps=4, batch_size=8)
    return replace(
        p,
        task=replace(p.task, name="tiny", dataset=replace(p.task.dataset, id=DATASET), collect=replace(p.task.collect, transitions=1_000)),
        denoiser=replace(
            p.denoiser,
            horizons=[8, 16],
            network=replace(p.denoiser.network, width=16, depth=1),
            preconditioner=replace(p.denoiser.preconditioner, width=8, gradient_steps=4, windows=200),
            train=train,
        ),
        length_estimator=replace(p.length_estimator, train=train),
        synthesis=replace(p.synthesis, reward_model=replace(p.synthesis.reward_model, train=train)),
    )


def write_params(root: Path, params: Params) -> Layout:
    """Write params.yaml into `root`."""
    (root / PARAMS_FILE).write_text(render_yaml(params))
    return Layout(root, params.task.name)
