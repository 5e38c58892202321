"""What killed DVC commands leave in `.dvc/tmp/rwlock`, in `dvc.lock` and in the run cache, and would stop the next one."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from atradiff.untrusted import FOREIGN_ERRORS

CLOCK_SECONDS = 1.0
"""By which the system's word on when a process began may be off."""
WRITING_SECONDS = 5.0
"""In which DVC has written an entry of its run cache, some kilobytes, once it has made the entry's folder."""
LOOKS_SECONDS = 0.1


def make_ready(root: Path) -> None:
    """Clear away all that would keep `dvc repro` from going on."""
    clear_killed(root)
    remove_cut_off_record(root)
    remove_cut_off_runs(root)


def remove_cut_off_runs(root: Path) -> None:
    """Remove from DVC's run cache what it was killed in the midst of writing: entries of which a part is missing, and empty folders.

    An entry is named after the hash of what it says. DVC writes it under a temporary name, but whatever is newest in a folder is the entry to it, and
    where that is half of one, or nothing, every repro fails. Studies share a cache, so whoever writes there may be alive, and is given time.
    """
    from dvc.config import Config

    cache = Path(Config(str(root / ".dvc"))["cache"].get("dir", root / ".dvc" / "cache"))
    for folder in (cache / "runs").glob("*/*"):
        with suppress(FileNotFoundError):  # somebody else has just removed it
            while _may_be_written(folder) and time.time() - folder.stat().st_mtime < WRITING_SECONDS:
                time.sleep(LOOKS_SECONDS)
            for path in folder.iterdir():
                if not _says_its_name(path):
                    path.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()


def _may_be_written(folder: Path) -> bool:
    files = list(folder.iterdir())
    return not files or any(path.suffix == ".tmp" for path in files)


def _says_its_name(path: Path) -> bool:
    """Whether DVC's hash of the entry's content is its name."""
    from dvc.utils import dict_sha256
    from ruamel.yaml import YAML, YAMLError

    try:
        return dict_sha256(YAML(typ="safe").load(path), exclude=["size", "nfiles"]) == path.name
    except (TypeError, ValueError, YAMLError):
        return False


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
            write = {file: about for file, about in held.get("write", {}).items() if _may_be(about, seconds)}
            read = {file: [about for about in readers if _may_be(about, seconds)] for file, readers in held.get("read", {}).items()}
        except FileNotFoundError:  # another run has removed it while this one waited
            return
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
