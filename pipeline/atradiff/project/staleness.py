"""Whether the offline stages are done, and done with today's parameters and code: DVC knows."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from atradiff.errors import UserError
from atradiff.params.load import load_params
from atradiff.params.schema import Params
from atradiff.project.dvc_locks import clear_killed
from atradiff.project.layout import Layout


def require_offline_stages(root: Path, params: Params, *, models: bool = True) -> None:
    """Raise `UserError` that names the offline stages which are missing or stale, if there are any.

    `models` False asks for the data only. Where DVC keeps no record (no .dvc folder or no dvc.lock), the files must exist.
    """
    layout = Layout(root, params.task.name)
    _require_same_offline_params(layout, params, models)
    outputs = _outputs(layout, params, models)
    missing = [stage for stage, path in outputs.items() if not path.exists()]
    stale: list[str] = []
    if (root / ".dvc").is_dir() and (root / "dvc.lock").is_file():
        changed = _changed_stages(root)
        stale = [stage for stage in outputs if stage in changed and stage not in missing]
    if missing or stale:
        told = [f"{', '.join(stages)} {word}" for stages, word in ((missing, "missing"), (stale, "out of date")) if stages]
        raise UserError(f"offline stages are not ready ({'; '.join(told)}): run `dvc repro` in {root} first")


def _outputs(layout: Layout, params: Params, models: bool) -> dict[str, Path]:
    """The stages that are needed, by DVC's names, each with what it makes."""
    outputs = {"collect": layout.dataset, "convert": layout.store}
    if models:
        outputs |= {f"train_denoiser@{horizon}": layout.denoiser(horizon).model for horizon in params.denoiser.horizons}
        outputs["train_length_estimator"] = layout.length_estimator.model
        if params.synthesis.reward == "learned":
            outputs["train_reward_model"] = layout.reward_model.model
    return outputs


def _require_same_offline_params(layout: Layout, params: Params, models: bool) -> None:
    """The stages read params.yaml; an override that they never saw must not pass for theirs."""
    known = load_params(layout.params)
    sections = {
        "task.name": (known.task.name, params.task.name),
        "task.dataset": (known.task.dataset, params.task.dataset),
        "task.collect": (known.task.collect, params.task.collect),
    }
    if models:
        subset = [horizon for horizon in known.denoiser.horizons if horizon in params.denoiser.horizons]
        sections |= {
            "task.hindsight": (known.task.hindsight, params.task.hindsight),
            "task.environment.achieved_goal": (known.task.environment.achieved_goal, params.task.environment.achieved_goal),
            "denoiser": (replace(known.denoiser, horizons=subset), params.denoiser),
            "length_estimator": (known.length_estimator, params.length_estimator),
            "synthesis.reward_model": (known.synthesis.reward_model, params.synthesis.reward_model),
        }
    different = [name for name, (ours, theirs) in sections.items() if ours != theirs]
    if different:
        raise UserError(f"{', '.join(different)} cannot be set for one run, as the offline stages read it: change params.yaml and run `dvc repro`")


def _changed_stages(root: Path) -> set[str]:
    """The stages that `dvc repro` would begin with."""
    clear_killed(root)
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "status", "--json"]  # runs that start together all ask
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise UserError(f"`dvc status` failed in {root} ({lines[-1] if lines else 'without a word'}): run `atradiff repro` there")
    return set(cast("dict[str, Any]", json.loads(done.stdout)))
