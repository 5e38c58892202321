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
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ruamel.yaml import YAML

sys.path[:0] = [str(Path(__file__).parents[1])]

LOOKS_SECONDS = 0.0005
WAITS_SECONDS = 0.002
WRITES_SECONDS = 0.005
PATIENCE_SECONDS = 600
Command = Callable[[], int]
KINDS = ("whole group", "parent alone")
REFUSALS = ("RWLock-file", "it is being blocked by", "dvc.lock' is", "dvc.lock' validation failed", "join() argument must be", ": 'outs'")
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
        self._log, self._said = root.with_suffix(".log"), 0
        params = tiny_params()
        write_params(root, replace(params, denoiser=replace(params.denoiser, horizons=[8])))

    def start(self, command: Command) -> int:
        """A repro, the leader of a session of its own; returns its process's number."""
        from forks import fork

        def work() -> int:
            os.setsid()
            os.environ |= self._env
            os.chdir(self.root)
            return command()

        self._said = self._log.stat().st_size if self._log.exists() else 0
        return fork(work, self._log)

    def plant_lock(self, cut_off: bool) -> None:
        """Leave what a killed DVC may leave: half a list, or a number that is this process's by now."""
        path = self.root / ".dvc" / "tmp" / "rwlock"
        path.parent.mkdir(exist_ok=True)
        about = {"pid": os.getpid(), "cmd": "dvc repro"}
        whole = json.dumps({"write": {str(self.root / "data"): about}, "read": {}})
        path.write_text(whole[: len(whole) // 2] if cut_off else whole)
        os.utime(path, (0, 0))

    def said(self) -> str:
        """The end of what its last command has printed."""
        return self._log.read_bytes()[self._said :].decode(errors="replace")[-2000:]

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
        """The SHA-256 of everything that came out, times aside: the store, models, metrics, pictures, and DVC's own record of them."""
        files = [path for path in (self.root / "data").rglob("*") if path.is_file() and path.suffix != ".lock"]
        found = {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}
        timed = next(name for name in found if name.endswith("/synthesis/metrics.json"))
        metrics = {key: value for key, value in json.loads(found[timed]).items() if "milliseconds" not in key}
        record = YAML(typ="safe").load(self.root / "dvc.lock")
        record["stages"]["evaluate_synthesis"]["outs"] = [out for out in record["stages"]["evaluate_synthesis"]["outs"] if out["path"] != timed]
        found |= {timed: json.dumps(metrics).encode(), "dvc.lock": json.dumps(record).encode()}
        return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


def dvc_repro() -> int:
    """`dvc repro`, in this process; its stages are copies of it, so that none has to import anything, and else as DVC starts them."""
    import dvc.stage.run
    from dvc.cli import main

    dvc.stage.run._run = _run_stage
    return main(["repro"])


def our_repro() -> int:
    """`atradiff repro` in the same way."""
    from atradiff.project.dvc_locks import make_ready

    make_ready(Path.cwd())
    return dvc_repro()


def _run_stage(executable: str, cmd: str, *, cwd: str, env: dict[str, str], **_: object) -> None:
    from dvc.stage.exceptions import StageCmdFailedError

    from atradiff import cli
    from forks import fork

    def work() -> None:
        os.closerange(3, 256)  # the files of DVC's locks among them
        os.environ.update(env)
        os.chdir(cwd)
        sys.argv = shlex.split(cmd)
        cli.main()

    process = fork(work)
    if (status := os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])) != 0:
        raise StageCmdFailedError(cmd, status)


def program(*command: str) -> Command:
    """The same as programs of their own."""
    return lambda: os.execv(sys.executable, [sys.executable, "-m", *command])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--program", action="store_true", help="DVC and every stage as a program that is started anew, which takes much longer.")
    given = parser.parse_args()
    repros = (program("dvc", "repro"), program("atradiff.cli", "repro")) if given.program else (dvc_repro, our_repro)
    _import_all()
    with tempfile.TemporaryDirectory() as folder:
        tally = kill_repros(Path(folder), repros, given.kills, given.seed)
    print(f"{dict(tally.kills)}, as a file was written: {tally.in_writing}; locks planted: {tally.planted}, DVC refused: {tally.blocked} times")
    print(f"repros that came to their end: {tally.ended}, lost: {len(tally.lost)}", *tally.lost, sep="\n")
    sys.exit(1 if tally.lost else 0)


def _import_all() -> None:
    """What is heavy, once, before processes part."""
    import dvc.commands.repro  # noqa: F401
    import torch

    import atradiff.stages.collect
    import atradiff.stages.convert
    import atradiff.stages.evaluate_synthesis
    import atradiff.stages.train_denoiser
    import atradiff.stages.train_length_estimator
    import atradiff.stages.train_reward_model  # noqa: F401

    torch.set_num_threads(1)


def kill_repros(folder: Path, repros: tuple[Command, Command], kills: int, seed: int) -> Tally:
    """Kill `dvc repro` of one project after the other, until there have been so many kills; then let the last one come to its end, and compare outputs.

    `repros` are DVC's own and ours; a project that neither brings to its end is lost. Whole groups are killed and the parent alone in turn; every
    other kill waits until a file is being written.
    """
    drawn, tally = random.Random(seed), Tally()
    whole = Project(folder / "whole")
    began = time.monotonic()
    if _wait(whole.start(repros[0]), PATIENCE_SECONDS) != 0:
        raise RuntimeError(whole.said())
    seconds = time.monotonic() - began
    wanted = whole.outputs()
    while tally.kills.total() < kills:
        project = Project(folder / f"killed-{tally.ended}")
        groups = list[int]()
        (dvcs, ours), status = repros, None
        command = dvcs
        while status != 0:
            before = tally.kills.total()
            if before < kills:
                status = _kill(project, command, drawn, seconds, tally, groups)
            else:
                status = _finish(project, command, groups)
            if status is None and before % PLANTED_EVERY == 0:
                project.plant_lock(cut_off=bool(before // PLANTED_EVERY % 2))
                tally.planted += 1
            if status not in (0, None):
                if command is ours or not any(refusal in project.said() for refusal in REFUSALS):
                    break
                tally.blocked += 1
            command = ours if status else dvcs
            print(tally, flush=True)
        tally.ended += 1
        if status != 0:
            tally.lost.append(f"{project.root.name}: the repro ended with {status}: {project.said()}")
        else:
            found = project.outputs()
            tally.lost += [f"{project.root.name}: {name}" for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
        for group in groups:  # stages that outlived their parent
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
    return tally


def _kill(project: Project, command: Command, drawn: random.Random, seconds: float, tally: Tally, groups: list[int]) -> int | None:
    """Start a repro and kill it; returns how it ended where it did before that."""
    process = project.start(command)
    groups.append(process)
    kind, writing = KINDS[tally.kills.total() % len(KINDS)], bool(tally.kills.total() // len(KINDS) % 2)
    if (status := _wait(process, drawn.uniform(0, seconds))) is not None:
        return status
    if writing:
        before, deadline = project.written(), time.monotonic() + seconds
        while project.written() == before and not _ended(process) and time.monotonic() < deadline:
            time.sleep(LOOKS_SECONDS)
        time.sleep(drawn.uniform(0, WRITES_SECONDS))
    if kind == "parent alone":
        os.kill(process, signal.SIGKILL)
    else:
        os.killpg(process, signal.SIGKILL)
    status = _wait(process, PATIENCE_SECONDS)
    if status != -signal.SIGKILL:
        return status
    tally.kills[kind] += 1
    tally.in_writing += writing
    return None


def _finish(project: Project, command: Command, groups: list[int]) -> int:
    """Carry a repro out in peace; returns how it ended."""
    process = project.start(command)
    groups.append(process)
    if (status := _wait(process, PATIENCE_SECONDS)) is not None:
        return status
    os.killpg(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _wait(process: int, seconds: float) -> int | None:
    """How it ended, or None where it has not within the time."""
    deadline = time.monotonic() + seconds
    while not _ended(process):
        if time.monotonic() > deadline:
            return None
        time.sleep(WAITS_SECONDS)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    main()
