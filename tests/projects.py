"""A project folder small enough to run all of its stages in a moment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


def online_params() -> Params:
    """The same with an online run of a moment: two rounds, an adaptation in each, short episodes."""
    p = tiny_params()
    return replace(
        p,
        task=replace(p.task, environment=replace(p.task.environment, max_episode_steps=12)),
        synthesis=replace(p.synthesis, batch_size=2),
        replay=replace(p.replay, synthetic_ratio=0.5),
        agent=replace(p.agent, width=16, depth=1, batch_size=8, utd_ratio=2),
        adaptation=replace(p.adaptation, adapt_every=20, gradient_steps=1, batch_size=4),
        online=replace(
            p.online,
            env_steps=60,
            evaluate_every=20,
            evaluation_episodes=2,
            warm_start_gradient_steps=2,
            warm_start_trajectories=4,
            update_after_env_steps=5,
            keep_checkpoints=2,
        ),
    )


def train_models(params: Params, layout: Layout) -> None:
    """The stages that an online run needs."""
    from atradiff.stages import collect, convert, train_denoiser, train_length_estimator

    collect.run(params, layout)
    convert.run(params, layout)
    for horizon in params.denoiser.horizons:
        train_denoiser.run(params, layout, horizon)
    train_length_estimator.run(params, layout)


def write_params(root: Path, params: Params) -> Layout:
    """Write params.yaml into `root`."""
    (root / PARAMS_FILE).write_text(render_yaml(params))
    return Layout(root, params.task.name)


def make_repo(root: Path) -> dict[str, str]:
    """Make of `root` a project under git and DVC, without params.yaml; returns the environment for its commands. Its datasets and DVC's own notes
    lie in folders beside it."""
    root.mkdir(parents=True, exist_ok=True)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, root)
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc")
    shutil.copytree(ROOT / "components", root / "components", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MINARI_DATASETS_PATH": str(root.parent / f"{root.name}-minari"),
        "OMP_NUM_THREADS": "1",  # models this small only lose time with more
        "DVC_SITE_CACHE_DIR": str(root.parent / f"{root.name}-site"),
    }
