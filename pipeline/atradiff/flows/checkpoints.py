"""Checkpoints of a run: versioned folders, each with a manifest, written beside their name and renamed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from atradiff.errors import UserError
from atradiff.flows.run_folder import RunFolder, write_whole

STATE_FORMAT = 2  # what the trainer's state holds; raised whenever an older one can no longer be gone on from
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
    manifest = {**folder.about(), "state_format": STATE_FORMAT, "env_steps": env_steps, "sha256": {"state.pt": _sha256(temporary / "state.pt")}}
    write_whole(temporary / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    _remove(target)
    os.replace(temporary, target)
    _sync(target.parent)
    for old in checkpoint_folders(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def latest_checkpoint(folder: RunFolder, warn: Callable[[str], None]) -> dict[str, Any]:
    """The state of the newest checkpoint whose checksum holds; `warn` hears of newer ones that are damaged.

    Raises UserError where none is whole, and where another version wrote it.
    """
    checkpoints = checkpoint_folders(folder)
    if not checkpoints:
        raise UserError(f"{folder.path} has no checkpoint to resume from: remove the folder and start the run again")
    for checkpoint in reversed(checkpoints):
        try:
            return _read(checkpoint)
        except READ_ERRORS as error:
            warn(f"the checkpoint {checkpoint} is cut short or damaged ({error}): it is left out")
    raise UserError(f"every checkpoint in {folder.path} is cut short or damaged: remove the folder and start the run again")


def _read(checkpoint: Path) -> dict[str, Any]:
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    if manifest["sha256"]["state.pt"] != _sha256(checkpoint / "state.pt"):
        raise ValueError("its checksum is another")
    if manifest.get("state_format") != STATE_FORMAT:
        raise UserError(f"{checkpoint} was written by another version of atradiff, which cannot be gone on from: start the run anew")
    return torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sync(folder: Path) -> None:
    """Have the folder's entries on disk, so that a rename outlives a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
