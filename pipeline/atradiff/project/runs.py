"""Where runs lie below the project's folder, and what they are called: answered without the heavy libraries, as a shell may be waiting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

RUNS = "runs"
OFFLINE_RUNS = f"{RUNS}/offline"
STUDY_RUNS = f"{RUNS}/studies"


def run_names(root: Path, below: str = RUNS) -> list[str]:
    """The names of the runs below that folder, each its path from there; those of studies are not among them."""
    return sorted(_names(root / below, root / STUDY_RUNS))


def _names(top: Path, leave_out: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(top):
        if "run.json" in files:
            yield Path(folder).relative_to(top).as_posix()
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".") and Path(folder, name) != leave_out]


def run_name(root: Path, path: Path) -> str:
    """What the run in that folder is called: its path from runs/, or, where it lies elsewhere, the folder's own name."""
    return path.relative_to(root / RUNS).as_posix() if path.is_relative_to(root / RUNS) else path.name
