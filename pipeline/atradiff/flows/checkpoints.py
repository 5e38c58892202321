"""Checkpoints of a run: versioned folders, each with a manifest, written beside their name and renamed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

from atradiff.errors import UserError
from atradiff.flows.run_folder import RunFolder, write_whole

READ_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError)


def checkpoint_folders(folder: RunFolder) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted((folder.path / "checkpoints").glob("step-" + "[0-9]" * 9))


def write_checkpoint(folder: RunFolder, env_steps: int, state: dict[str, Any], keep: int) -> Path:
    """Write the trainer's state, and remove all but the newest `keep` checkpoints.

    The manifest says what run.json says (versions, seed, arm, the data's fingerprint, the commit), the env steps and the checksums.
    """
    target = folder.path / "checkpoints" / f"step-{env_steps:09d}"
    temporary = target.with_name(target.name + ".writing")
    _remove(temporary)
    temporary.mkdir(parents=True)
    with (temporary / "state.pt").open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    manifest = {**folder.about(), "env_steps": env_steps, "sha256": {"state.pt": _sha256(temporary / "state.pt")}}
    write_whole(temporary / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    _remove(target)
    os.replace(temporary, target)
    for old in checkpoint_folders(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def latest_checkpoint(folder: RunFolder) -> dict[str, Any]:
    """The newest checkpoint's state, after its checksum was verified."""
    checkpoints = checkpoint_folders(folder)
    if not checkpoints:
        raise UserError(f"{folder.path} has no checkpoint to resume from: remove the folder and start the run again")
    newest = checkpoints[-1]
    damaged = UserError(f"the checkpoint {newest} is cut short or damaged: delete it, and --resume goes on from the one before")
    try:
        manifest = json.loads((newest / "manifest.json").read_text())
        if manifest["sha256"]["state.pt"] != _sha256(newest / "state.pt"):
            raise damaged
        return torch.load(newest / "state.pt", map_location="cpu", weights_only=True)
    except READ_ERRORS as error:
        raise damaged from error


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
