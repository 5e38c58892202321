"""What killed DVC commands leave in `.dvc/tmp/rwlock` and in `dvc.lock`, and would stop the next one."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import psutil

from atradiff.untrusted import FOREIGN_ERRORS

CLOCK_SECONDS = 1.0
"""By which the system's word on when a process began may be off."""


def make_ready(root: Path) -> None:
    """Clear away all that would keep `dvc repro` from going on."""
    clear_killed(root)
    remove_cut_off_record(root)


def remove_cut_off_record(root: Path) -> None:
    """Remove a dvc.lock that DVC was killed in the midst of writing. It then restores from its cache what it has made before."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # takes a second, which whoever starts DVC has
    from ruamel.yaml import YAML, YAMLError
    from voluptuous import Invalid

    path = root / "dvc.lock"
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(path))
    except FileNotFoundError:
        return
    except (Invalid, YAMLError):
        path.unlink()


def clear_killed(root: Path) -> None:
    """Remove from the project's list of who reads and writes what those who are gone, and the list itself if its writer was killed halfway.

    DVC does so itself where a process's number is free again, but a number may belong to somebody else by now: after a restart of the machine, or in
    another container. Whoever began after the list was last written is not in it.
    """
    path = root / ".dvc" / "tmp" / "rwlock"
    if not path.exists():
        return
    with path.with_name("rwlock.lock").open("a") as guard:  # DVC's own, which it holds only while it writes the list
        fcntl.flock(guard, fcntl.LOCK_EX)
        try:
            held, seconds = json.loads(path.read_text()), path.stat().st_mtime
            write = {file: about for file, about in held["write"].items() if _may_be(about, seconds)}
            read = {file: [about for about in readers if _may_be(about, seconds)] for file, readers in held["read"].items()}
        except FOREIGN_ERRORS:
            path.unlink()
            return
        temporary = path.with_name("rwlock.writing")
        temporary.write_text(json.dumps({"write": write, "read": {file: readers for file, readers in read.items() if readers}}))
        os.replace(temporary, path)


def _may_be(about: dict[str, Any], seconds: float) -> bool:
    """Whether its process may be the one that wrote itself down at that time or before."""
    try:
        return psutil.Process(about["pid"]).create_time() <= seconds + CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False
