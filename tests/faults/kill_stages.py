"""A part of `make test-faults`: kill `dvc repro` at random instants, repeat it, and count what was lost.

Where DVC's own list of who reads and writes is in the way, `atradiff repro` is to go on; a list that was cut off, and one with a number that belongs
to another process by now, are laid in the way on purpose.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

LOOKS_SECONDS = 0.0005
WRITES_SECONDS = 0.005
PATIENCE_SECONDS = 600
KINDS = ("whole group", "parent alone")
DVC_REPRO, OUR_REPRO = ("dvc", "repro"), ("atradiff.cli", "repro")
REFUSALS = ("RWLock-file", "it is being blocked by")
PLANTED_EVERY = 5


@dataclass
class Tally:
    """Kills by kind, how many came as a file was written, locks planted, times that DVC refused to go on, repros that came to their end, and what was
    lost."""

    kills: Counter[str] = field(default_factory=Counter[str])
    in_writing: int = 0
    planted: int = 0
    blocked: int = 0
    ended: int = 0
    lost: list[str] = field(default_factory=list)


class Project:
    """A tiny project of its own, in which `dvc repro` is started again and again."""

    def __init__(self, root: Path) -> None:
        from projects import make_repo, tiny_params, write_params

        self.root, self._env = root, make_repo(root)
        self._log = root.with_suffix(".log")
        params = tiny_params()
        write_params(root, replace(params, denoiser=replace(params.denoiser, horizons=[8])))

    def start(self, command: tuple[str, ...] = DVC_REPRO) -> subprocess.Popen[bytes]:
        """A repro, the leader of a session of its own."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.root, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def plant_lock(self, cut_off: bool) -> None:
        """Leave what a killed DVC may leave: half a list, or a number that is this process's by now."""
        path = self.root / ".dvc" / "tmp" / "rwlock"
        path.parent.mkdir(exist_ok=True)
        about = {"pid": os.getpid(), "cmd": "dvc repro"}
        whole = json.dumps({"write": {str(self.root / "data"): about}, "read": {}})
        path.write_text(whole[: len(whole) // 2] if cut_off else whole)
        os.utime(path, (0, 0))

    def said(self) -> str:
        """The last of all that its commands have printed."""
        return self._log.read_text()[-2000:]

    def written(self) -> dict[str, int]:
        """Every file that a repro writes, with the time of its last change."""
        folders = (self.root / "data", self.root / ".dvc" / "tmp", self.root / ".dvc" / "cache", Path(self._env["MINARI_DATASETS_PATH"]))
        files = [self.root / "dvc.lock", *(path for folder in folders for path in folder.rglob("*"))]
        times = dict[str, int]()
        for path in files:
            with suppress(FileNotFoundError):
                times[str(path)] = path.lstat().st_mtime_ns
        return times

    def outputs(self) -> dict[str, str]:
        """The SHA-256 of everything that came out: the store, models, metrics, pictures, and DVC's own record of them."""
        files = [self.root / "dvc.lock", *(path for path in (self.root / "data").rglob("*") if path.is_file() and path.suffix != ".lock")]
        return {path.relative_to(self.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = kill_repros(Path(folder), given.kills, given.seed)
    print(f"{dict(tally.kills)}, as a file was written: {tally.in_writing}; locks planted: {tally.planted}, DVC refused: {tally.blocked} times")
    print(f"repros that came to their end: {tally.ended}, lost: {len(tally.lost)}", *tally.lost, sep="\n")
    sys.exit(1 if tally.lost else 0)


def kill_repros(folder: Path, kills: int, seed: int) -> Tally:
    """Kill `dvc repro` of one project after the other, until each comes to its end and there have been so many kills; then compare its outputs.

    Whole groups are killed and the parent alone in turn; every other kill waits until a file is being written.
    """
    drawn, tally = random.Random(seed), Tally()
    whole = Project(folder / "whole")
    began = time.monotonic()
    if whole.start().wait(PATIENCE_SECONDS) != 0:
        raise RuntimeError(whole.said())
    seconds = time.monotonic() - began
    wanted = whole.outputs()
    while tally.kills.total() < kills:
        project = Project(folder / f"killed-{tally.ended}")
        groups = list[int]()
        command, status = DVC_REPRO, None
        while status != 0:
            before = tally.kills.total()
            status = _kill(project, command, drawn, seconds, tally, groups)
            if status is None and before % PLANTED_EVERY == 0:
                project.plant_lock(cut_off=bool(before // PLANTED_EVERY % 2))
                tally.planted += 1
            if status not in (0, None):
                if command == OUR_REPRO or not any(refusal in project.said() for refusal in REFUSALS):
                    break
                tally.blocked += 1
            command = OUR_REPRO if status else DVC_REPRO
            print(tally, flush=True)
        tally.ended += 1
        found = project.outputs()
        tally.lost += [f"{project.root.name}: {name}" for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
        if status != 0:
            tally.lost.append(f"{project.root.name}: the repro ended with {status}: {project.said()}")
        for group in groups:  # stages that outlived their parent
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
    return tally


def _kill(project: Project, command: tuple[str, ...], drawn: random.Random, seconds: float, tally: Tally, groups: list[int]) -> int | None:
    """Start a repro and kill it; returns how it ended where it did before that."""
    process = project.start(command)
    groups.append(process.pid)
    kind, writing = KINDS[tally.kills.total() % len(KINDS)], bool(tally.kills.total() // len(KINDS) % 2)
    with suppress(subprocess.TimeoutExpired):
        return process.wait(drawn.uniform(0, seconds))
    if writing:
        before, deadline = project.written(), time.monotonic() + seconds
        while project.written() == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(LOOKS_SECONDS)
        time.sleep(drawn.uniform(0, WRITES_SECONDS))
    if kind == "parent alone":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    status = process.wait()
    if status != -signal.SIGKILL:
        return status
    tally.kills[kind] += 1
    tally.in_writing += writing
    return None


if __name__ == "__main__":
    main()
