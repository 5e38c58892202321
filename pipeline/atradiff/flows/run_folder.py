"""A run on disk: its parameters, its provenance, its metrics. What is there is whole: files are renamed into place."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from atradiff.errors import UserError
from atradiff.project.layout import Layout
from atradiff.project.machine import describe_machine
from atradiff.project.runs import OFFLINE_RUNS, RUNS
from atradiff.untrusted import Damaged, parse_json, read_json, regular_file

if TYPE_CHECKING:  # torch comes with the parameters' schema, and a list of runs should not wait for it
    from atradiff.flows.assemble import Arm
    from atradiff.params.schema import Params

FORMAT = 1
OFFLINE = "offline"
"""The arm of runs without env steps."""
AGENT_FILE = "agent.pt"
"""What an offline run leaves at its end."""
PACKAGES = ("atradiff", "torch", "numpy", "gymnasium", "gymnasium-robotics", "mujoco", "minari")
LARGEST_COUNT = 2.0**1000
"""Metrics beyond it are none."""
Metrics = dict[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @classmethod
    def create(cls, path: Path, params: Params, arm: str, seed: int, layout: Layout, **origin: str) -> RunFolder:
        """A new run folder with its parameters, and in run.json what else is told of its `origin`; refuses one that exists."""
        from atradiff.params.render import render_yaml

        if path.exists():
            raise UserError(f"the run folder {path} exists: go on with it by --resume, or choose another with --run-dir")
        about = {"format": FORMAT, "task": params.task.name, "arm": arm, "seed": seed, **origin, **provenance(layout)}
        with told(f"the run folder {path}", "choose another with --run-dir"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as made:
                folder = cls(Path(made) / path.name)  # only what is whole gets its name, so that a kill leaves no folder that is none
                folder.path.mkdir()
                write_whole(folder.params_file, render_yaml(params))
                write_whole(folder.path / "run.json", json.dumps(about, indent=2) + "\n")
                os.rename(folder.path, path)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run folder."""
        if not (path / "run.json").is_file() or not (path / "params.yaml").is_file():
            raise UserError(f"{path} is no run folder (run.json or params.yaml is missing): `atradiff online list` shows the runs")
        return cls(path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def params_file(self) -> Path:
        return self.path / "params.yaml"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def learning_curve(self) -> Path:
        return self.path / "learning-curve.svg"

    @property
    def arms_picture(self) -> Path:
        return self.path / "arms.svg"

    @property
    def imagined_picture(self) -> Path:
        return self.path / "imagined.svg"

    @property
    def profile(self) -> Path:
        return self.path / "profile.txt"

    @property
    def trace(self) -> Path:
        return self.path / "trace.json"

    @property
    def distances_picture(self) -> Path:
        return self.path / "distances.svg"

    @property
    def sources_picture(self) -> Path:
        return self.path / "sources.svg"

    @property
    def lengths_picture(self) -> Path:
        return self.path / "lengths.svg"

    @property
    def times_picture(self) -> Path:
        return self.path / "times.svg"

    def params(self) -> Params:
        """The parameters this run was started with."""
        from atradiff.params.load import load_params

        return load_params(self.params_file)

    def about(self) -> dict[str, Any]:
        """What run.json holds: task, arm, seed, versions, data, commit."""
        path = self.path / "run.json"
        try:
            about = read_json(path)
        except (OSError, Damaged) as error:
            raise UserError(f"{path} cannot be read ({error}): remove this run folder") from error
        if about.get("format") != FORMAT:
            raise UserError(f"{path} is not of format {FORMAT}: this run was made by another version")
        return about

    # --- metrics -------------------------------------------------------------------------------------------------------

    def append_metrics(self, metrics: Metrics) -> None:
        """One JSON line, on disk when this returns. What is not a finite number becomes null."""
        line = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in metrics.items()}
        with told(f"a line of {self.metrics_file}", "mend that, and go on with --resume"), self.metrics_file.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def metrics(self) -> list[Metrics]:
        """All lines. A last line that a crash cut short is left out."""
        if not self.metrics_file.exists():
            return []
        try:
            regular_file(self.metrics_file)
            lines = self.metrics_file.read_text().splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"{self.metrics_file} cannot be read ({error}): remove this run folder") from error
        rows: list[Metrics] = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(_metrics_of(line))
            except ValueError as error:
                if number == len(lines):
                    break
                raise UserError(f"{self.metrics_file} is damaged in line {number}: mend or remove that line") from error
        return rows

    def keep_metrics(self, count: int) -> None:
        """Forget all but the first `count` lines: what came after the checkpoint that a run goes on from."""
        rows = self.metrics()
        if len(rows) < count:
            raise UserError(f"{self.metrics_file} has {len(rows)} lines, its checkpoint knows of {count}: put the missing lines back, or start the run anew")
        with told(f"{self.metrics_file}", "mend that, and go on with --resume"):
            write_whole(self.metrics_file, "".join(json.dumps(row) + "\n" for row in rows[:count]))


def _metrics_of(line: str) -> Metrics:
    """One line's metrics: names with numbers or null, and the steps taken. Raises `Damaged` for anything else."""
    metrics = {sys.intern(name): value for name, value in parse_json(line).items()}  # else each line of a long run has names of its own
    plain = all(value is None or (isinstance(value, (int, float)) and abs(value) < LARGEST_COUNT) or value != value for value in metrics.values())
    if not plain or type(metrics.get("env_steps", metrics.get("gradient_steps"))) is not int:
        raise Damaged("it is no line of metrics")
    return metrics


def provenance(layout: Layout) -> dict[str, Any]:
    """Versions, the machine, the offline data's fingerprint and the code's commit, as far as they are known here."""
    data = json.loads(layout.dataset.read_text()) if layout.dataset.is_file() else {}
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": describe_machine(),
        "dataset": data.get("id"),
        "data_sha256": data.get("sha256"),
        "git_commit": _git_commit(layout.root),
    }


def _git_commit(root: Path) -> str | None:
    """The commit checked out, with `-modified` where tracked files differ from it; None outside a repository."""
    with contextlib.suppress(OSError):
        command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=-modified"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None
    return None


def new_run_path(root: Path, task: str, arm: str, seed: int) -> Path:
    """runs/TASK-ARM-seedN, with -2, -3 ... behind it where that is taken."""
    *_, free = _numbered(root / RUNS, task, arm, seed)
    return free


def new_offline_path(root: Path, task: str, algorithm: str, seed: int) -> Path:
    """runs/offline/TASK-ALGORITHM-seedN, in the same way."""
    *_, free = _numbered(root / OFFLINE_RUNS, task, algorithm, seed)
    return free


def newest_run_path(root: Path, task: str, arm: Arm, seed: int) -> Path:
    """The newest run of that name, to be resumed."""
    return _newest(root / RUNS, task, arm, seed, f"arm {arm}")


def newest_offline_path(root: Path, task: str, algorithm: str, seed: int) -> Path:
    """The newest offline run of that name."""
    return _newest(root / OFFLINE_RUNS, task, algorithm, seed, f"agent {algorithm}")


def _newest(runs: Path, task: str, arm: str, seed: int, told: str) -> Path:
    *taken, _ = _numbered(runs, task, arm, seed)
    if not taken:
        raise UserError(f"no run of {task}, {told}, seed {seed} in {runs}: start one without --resume, or name it with --run-dir")
    return taken[-1]


def find_offline_run(root: Path, run: str) -> RunFolder:
    """The offline run of that name, with offline/ before it or without, or in that folder; refuses one that has not come to its end."""
    named = [root / below / run for below in (OFFLINE_RUNS, RUNS)]
    folder = RunFolder.open(next((path for path in named if (path / "run.json").is_file()), Path(run).resolve()))
    if not (folder.path / AGENT_FILE).is_file():
        raise UserError(f"{folder.path} holds no {AGENT_FILE}, which `atradiff offline run` leaves at its end: name an offline run that is done")
    return folder


def open_to_resume(path: Path, *, offline: bool) -> RunFolder:
    """The run in that folder; refuses one that the other command carries out."""
    folder = RunFolder.open(path)
    if (folder.about()["arm"] == OFFLINE) != offline:
        begun, other = ("online", "offline") if offline else ("offline", "online")
        raise UserError(f"{path} was begun by `atradiff {begun} run`, and {other} runs do not go on with it: `atradiff {begun} run --resume` does")
    return folder


def settings_carried_over(learned: RunFolder) -> dict[str, Any]:
    """What an online run that goes on from an offline one takes over unless told otherwise: the agent's settings, and that no more
    is learned before the first env step."""
    agent = {f"agent.{name}": value for name, value in asdict(learned.params().agent).items()}
    return {**agent, "online.warm_start_gradient_steps": 0}


def _numbered(runs: Path, task: str, arm: str, seed: int) -> Iterator[Path]:
    """The names in order, up to and with the first that is free."""
    name, number = f"{task}-{arm}-seed{seed}", 1
    while True:
        path = runs / (name if number == 1 else f"{name}-{number}")
        yield path
        if not path.exists():
            return
        number += 1


def write_whole(path: Path, text: str) -> None:
    """Write a file to a temporary name, then rename it."""
    temporary = path.with_name(path.name + ".writing")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sync(folder: Path) -> None:
    """Have the folder's entries on disk, so that a rename outlives a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def told(what: str, remedy: str) -> Generator[None]:
    """A full disk, a folder that may not be written to and the like, told in one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what} cannot be written ({error.strerror or error}): {remedy}") from error
