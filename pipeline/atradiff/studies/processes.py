"""The processes of a study: each in a session of its own, all ended with the study."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from atradiff.errors import UserError

Runner = Callable[[Sequence[str], Path, Path], int]
"""Runs a command in a folder, appends what it prints to a log, and returns its exit code."""

GRACE_SECONDS = 20


class Processes:
    """A `Runner` for several threads. Leaving it ends what still runs. All inherit the file descriptor `lock`."""

    def __init__(self, environment: Mapping[str, str], lock: int) -> None:
        self._environment = environment
        self._lock = lock
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()
        self._stopped = False

    def __call__(self, command: Sequence[str], folder: Path, log: Path) -> int:
        log.parent.mkdir(parents=True, exist_ok=True)
        with self._guard, log.open("ab") as output:
            if self._stopped:
                return -signal.SIGTERM
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the study, which then ends its processes
                pass_fds=(self._lock,),
            )
            self._running.add(process)
        code = process.wait()
        with self._guard:
            self._running.discard(process)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._guard:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGTERM)
        for process in running:
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the process and all that it started; it may be gone by now."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextmanager
def only_one(folder: Path) -> Generator[IO[str]]:
    """Holds the folder's lock. Processes that inherit it keep it, so that no study begins beside runs that outlived their own."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"the study in {folder} runs already, or runs of it are still ending: wait for them, or stop them") from error
        yield file


def environment_of_runs(api_url: str, program_folder: Path) -> dict[str, str]:
    """The environment of stages and runs: our programs come first, and all report to one Prefect server."""
    path = os.pathsep.join([str(program_folder), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PREFECT_API_URL": api_url}
