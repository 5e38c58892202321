"""Checkpoints of a run: versioned folders, each whole in itself, written beside their name and renamed.

A file that has not changed since the checkpoint before is not written again but linked: so a checkpoint costs what has changed, each folder can be
copied away alone, and the last one to be removed takes the file with it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from atradiff.errors import UserError
from atradiff.flows.run_folder import Metrics, RunFolder, sync, told, write_whole
from atradiff.flows.segments import Segment, join_segments, split_segments, write_segment
from atradiff.untrusted import FOREIGN_ERRORS, Damaged, inside, read_json, read_tensors

STATE_FORMAT = 7  # what the state holds; raised whenever an older one can no longer be gone on from
READ_ERRORS = (OSError, *FOREIGN_ERRORS)
NAME = re.compile(r"step-(\d+)(?:-(\d+))?")
OWN_FILES = ("models", "originals")
"""What changes seldom or never has a file of its own, and in the state's `revisions` a name for what it holds now: equal names, equal content."""
REPLAYS = ("online", "synthetic")


class Checkpoints:
    """The checkpoints of one run, whose steps are `unit`s. The next one shares files of the one written or read last."""

    def __init__(self, run: RunFolder, unit: str = "env_steps") -> None:
        self._run = run
        self._unit = unit
        self._folder = run.path / "checkpoints"
        self._last: Path | None = None
        self._manifest: dict[str, Any] = {"sha256": {}, "segments": []}
        self._revisions: dict[str, str] = {}
        self._damaged: list[Path] = []

    def folders(self) -> list[Path]:
        """All that are there, oldest first."""
        found = [(match, path) for path in self._folder.glob("step-*") if (match := NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, key=lambda item: (int(item[0][1]), int(item[0][2] or 1)))]

    def best(self) -> Path | None:
        """The one whose evaluation was the best, the latest of equals; None where none has an evaluation."""
        ranked = [(rank, path) for path in self.folders() if (rank := _rank(path, self._unit)) is not None]
        return max(ranked, key=lambda item: item[0])[1] if ranked else None

    def write(self, steps: int, state: dict[str, Any], evaluation: Metrics | None, keep: int) -> Path:
        """Write the run's state, and remove all but the newest `keep` and the best.

        The manifest says what run.json says (versions, seed, arm, the data's fingerprint, the commit), the steps, the metrics of the
        `evaluation` that was just made, if one was, and the checksum of every file. Raises `UserError` where the disk will not have it.
        """
        target = self._free(steps)
        temporary = target.with_name(target.name + ".writing")
        step = self._unit.removesuffix("s").replace("_", " ")
        with told(f"the checkpoint at {step} {steps}", "the run's earlier checkpoints are whole: mend that, and go on with --resume"):
            self._clear_up()
            temporary.mkdir(parents=True)
            manifest = {**self._run.about(), "state_format": STATE_FORMAT, self._unit: steps, "evaluation": evaluation}
            manifest |= self._write_files(temporary, state)
            write_whole(temporary / "manifest.json", json.dumps(manifest, indent=2) + "\n")
            sync(temporary)
            os.replace(temporary, target)
            sync(target.parent)
            self._last, self._manifest, self._revisions = target, manifest, state.get("revisions", {})
            kept = {*self.folders()[-keep:], self.best()}
            for old in self.folders():
                if old not in kept:
                    _remove(old)
        return target

    def latest(self, warn: Callable[[str], None]) -> dict[str, Any] | None:
        """The state of the newest checkpoint whose checksums hold, or None where the run has not come to one.

        `warn` hears of those that are damaged; when the next one is written they are set aside under another name. Raises UserError where none of
        them is whole, and where another version wrote the newest.
        """
        folders = self.folders()
        for checkpoint in reversed(folders):
            try:
                return self._read(checkpoint)
            except READ_ERRORS as error:
                self._damaged.append(checkpoint)
                warn(f"the checkpoint {checkpoint} is cut short or damaged ({error}): it is left out")
        if folders:
            raise UserError(f"every checkpoint in {self._run.path} is cut short or damaged: remove the folder and start the run again")
        return None

    # --- files ---------------------------------------------------------------------------------------------------------

    def _write_files(self, folder: Path, state: dict[str, Any]) -> dict[str, Any]:
        """Write what has changed, link the rest; returns what the manifest says about both."""
        state = {**state, "replay": dict(state["replay"])}
        segments, checksums = list[Segment](), dict[str, str]()
        known = [Segment(*segment) for segment in self._manifest["segments"]]
        for name in REPLAYS:
            replay = state["replay"][name]
            old, new, tail = split_segments(name, replay, known)
            for segment in old:
                checksums[segment.file] = self._link(folder, segment.file)
            for segment in new:
                write_segment(folder / segment.file, segment, replay["rows"])
                _sync_file(folder / segment.file)
                checksums[segment.file] = _sha256(folder / segment.file)
            segments += [*old, *new]
            state["replay"][name] = {**replay, "rows": tail, "stored": len(replay["rows"])}
        for name in OWN_FILES:
            if name in state:
                content, file, unchanged = state.pop(name), f"{name}.pt", self._revisions.get(name) == state["revisions"][name]
                checksums[file] = self._link(folder, file) if unchanged else _write(folder / file, content)
        checksums["state.pt"] = _write(folder / "state.pt", state)
        return {"segments": segments, "sha256": checksums}

    def _link(self, folder: Path, file: str) -> str:
        """The file of the checkpoint before, by a hard link, or copied where the file system has none; returns its checksum."""
        assert self._last is not None
        try:
            os.link(self._last / file, folder / file)
        except PermissionError:  # what Linux says on a file system without hard links
            shutil.copyfile(self._last / file, folder / file)
            _sync_file(folder / file)
        return self._manifest["sha256"][file]

    def _read(self, checkpoint: Path) -> dict[str, Any]:
        manifest = read_json(checkpoint / "manifest.json")
        if (found := manifest.get("state_format")) != STATE_FORMAT:
            raise UserError(
                f"{checkpoint} has the format {found}, this version of atradiff goes on from {STATE_FORMAT}: start the run anew, or use the version "
                f"that wrote it ({manifest.get('versions', {}).get('atradiff', 'unknown')})"
            )
        segments = [Segment(str(replay), int(cleared), int(first), int(end)) for replay, cleared, first, end in manifest["segments"]]
        files = ["state.pt", *(f"{name}.pt" for name in OWN_FILES if f"{name}.pt" in manifest["sha256"]), *(s.file for s in segments)]
        for file in files:
            if manifest["sha256"][file] != _sha256(inside(checkpoint, file)):
                raise Damaged(f"the checksum of {file} is another")
        state = read_tensors(checkpoint / "state.pt")
        for name in REPLAYS:
            replay = state["replay"][name]
            own = [segment for segment in segments if segment.replay == name]
            replay["rows"] = join_segments(checkpoint, own, replay["rows"], replay["added"], replay.pop("stored"))
        for name in OWN_FILES:
            if f"{name}.pt" in files:
                state[name] = read_tensors(checkpoint / f"{name}.pt")
        self._last, self._manifest, self._revisions = checkpoint, manifest, state.get("revisions", {})
        return state

    def _free(self, steps: int) -> Path:
        """A name behind all that are there: nothing that is whole is ever replaced."""
        name = f"step-{steps:09d}"
        taken = [int(match[2] or 1) for path in self.folders() if (match := NAME.fullmatch(path.name)) and int(match[1]) == steps]
        return self._folder / (f"{name}-{max(taken) + 1}" if taken else name)

    def _clear_up(self) -> None:
        """Remove what a kill left half written or half removed, and set aside what is damaged."""
        for checkpoint in self._damaged:
            checkpoint.rename(checkpoint.with_name(f"damaged-{checkpoint.name}-{uuid4().hex[:8]}"))
        self._damaged.clear()
        for suffix in (".writing", ".removing"):
            for path in self._folder.glob("*" + suffix):
                shutil.rmtree(path)


def _rank(checkpoint: Path, unit: str) -> tuple[float, float, int, Path] | None:
    """How good its evaluation was: by success where the environment tells of it, else by return. None where it had none, or is damaged."""
    try:
        evaluation = read_json(checkpoint / "manifest.json")["evaluation"]
        success, value = evaluation["eval/success_rate"], evaluation["eval/return"]
        return (-1.0 if success is None else float(success)), float(value), int(evaluation[unit]), checkpoint
    except READ_ERRORS:
        return None


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint under another name, so that a kill leaves nothing that looks like one."""
    leaving = checkpoint.with_name(checkpoint.name + ".removing")
    os.replace(checkpoint, leaving)
    shutil.rmtree(leaving)


def _write(path: Path, content: object) -> str:
    """Returns the checksum of what was written."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getbuffer())
    _sync_file(path)
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
