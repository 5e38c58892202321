"""Models at rest: one file that explains itself, is written to a temporary name and renamed, and runs no code when read."""

from __future__ import annotations

import os
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from atradiff.data.normalizer import Normalizer
from atradiff.diffusion.backbone import NetworkConfig
from atradiff.diffusion.denoiser import Denoiser, NoiseConfig
from atradiff.diffusion.preconditioner import ConditionalGaussian
from atradiff.errors import UserError
from atradiff.trajectory import Spec

FORMAT = 1


def save_checkpoint(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, lists, dicts) with its kind and the format's number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".writing")
    with temporary.open("wb") as file:
        torch.save({"format": FORMAT, "kind": kind, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """Read a checkpoint of the given kind; raises `UserError` for a missing, damaged or foreign file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"no {kind} at {path}: run `dvc repro` to make it") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"the {kind} {path} is cut short or damaged: delete it and make it again") from error
    found = (content.get("kind"), content.get("format")) if isinstance(content, dict) else (None, None)
    if found != (kind, FORMAT):
        raise UserError(f"{path} holds {found[0]!r} of format {found[1]}, expected {kind!r} of format {FORMAT}: make it again with `dvc repro`")
    return content


def normalizer_state(normalizer: Normalizer) -> dict[str, Any]:
    """A normaliser as plain tensors."""
    arrays = {name: torch.from_numpy(getattr(normalizer, name)) for name in ("row_mean", "row_scale", "task_mean", "task_scale")}
    return {"spec": normalizer.spec.to_dict(), **arrays}


def load_normalizer(state: dict[str, Any]) -> Normalizer:
    """The inverse of `normalizer_state`."""
    arrays = {name: state[name].numpy() for name in ("row_mean", "row_scale", "task_mean", "task_scale")}
    return Normalizer(spec=Spec.from_dict(state["spec"]), **arrays)


def save_denoiser(path: Path, denoiser: Denoiser, provenance: dict[str, Any]) -> None:
    """Config, averaged weights, normaliser and provenance of a denoiser."""
    gaussian = denoiser.gaussian
    content = {
        "horizon": denoiser.horizon,
        "network": asdict(denoiser.network_config),
        "noise": asdict(denoiser.noise_config),
        "gaussian": {"width": gaussian.coefficients.head.in_features, "rank": gaussian.rank},
        "normalizer": normalizer_state(denoiser.normalizer),
        "weights": denoiser.state_dict(),
        "provenance": provenance,
    }
    save_checkpoint(path, "denoiser", content)


def load_denoiser(path: Path, device: torch.device | str = "cpu") -> Denoiser:
    """The denoiser in `path`, ready to sample on `device`."""
    content = load_checkpoint(path, "denoiser")
    normalizer = load_normalizer(content["normalizer"])
    spec, horizon = normalizer.spec, int(content["horizon"])
    gaussian = ConditionalGaussian(
        horizon, normalizer.num_channels, spec.state_dim + spec.task_dim, content["gaussian"]["width"], content["gaussian"]["rank"]
    )
    denoiser = Denoiser(normalizer, gaussian, horizon, NetworkConfig(**content["network"]), NoiseConfig(**content["noise"]))
    denoiser.load_state_dict(content["weights"])
    denoiser.gaussian.requires_grad_(False)
    return denoiser.to(device).eval()
