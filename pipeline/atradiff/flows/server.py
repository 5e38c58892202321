"""The Prefect server: the one that is there, or one that runs start quietly and share."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import httpx
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_API_HOST,
    PREFECT_SERVER_API_PORT,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    temporary_settings,
)
from prefect.settings.legacy import Setting

from atradiff.errors import UserError

STARTUP_SECONDS = 300
DRAIN_SECONDS = 10
ENDING_SECONDS = 20
BUSY_SECONDS = 30.0  # for a server that is said to be there: many runs may ask it at the same moment
MAXIMUM_STARTS = 3
CACHED_STATEMENTS = 16
SERVER_LOG = "atradiff-server.log"
SERVER = (sys.executable, "-m", "atradiff.flows.server_process")


class SharedServer:
    """One server for all runs that have the same Prefect home and find none there: the first of them starts it, the last one ends it.

    It writes to the same database that `atradiff ui` shows. The server's process holds a lock on the file `atradiff-server`, which tells its port
    and its number; whoever uses it shares a lock on `atradiff-server.users`. These locks are the system's own and end with their processes, however
    those end: a server that has no users left ends by itself, and one that was killed is started again by whoever misses it.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._about, self._log = home / "atradiff-server", home / SERVER_LOG
        self._users_file = home / "atradiff-server.users"
        self._users = os.open(self._users_file, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._users, fcntl.LOCK_SH)  # waits for one that is just ending
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        port, *_ = self._about.read_text().split()
        return f"http://127.0.0.1:{port}/api"

    def start(self) -> None:
        """Start it, unless it is running or starting."""
        with self._lock_if_free() as lock:
            if lock is None:
                return
            if self._process is not None:
                self._process.wait()  # it has let its lock go
            self._starts += 1
            port = free_port(self._about.read_text().split())
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{port}".encode(), 0)
            environment = {
                "MALLOC_ARENA_MAX": "1",  # glibc's: one heap for all of its threads is less torn than one for each
                **os.environ,
                "PREFECT_UI_ENABLED": "0",
                "PREFECT__SERVER_EPHEMERAL": "1",
                "PREFECT__SERVER_FINAL": "1",
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": with_few_statements(str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value())),
            }
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [*SERVER, str(port), str(lock), str(self._users_file)],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[lock],  # the lock is the server's as soon as we let go
                    start_new_session=True,  # Ctrl-C is for the flow, which then still tells the server that it was stopped
                )

    def wait(self) -> None:
        """Until it answers. Where another process migrates a fresh database at the same moment, a server gives up: start it again."""
        deadline = time.monotonic() + STARTUP_SECONDS
        while not answers(self.url):
            if time.monotonic() > deadline or self._starts > MAXIMUM_STARTS:
                raise UserError(f"Prefect's server did not start (see {self._log}): start one with `atradiff ui`, or set PREFECT_API_URL")
            self.start()
            time.sleep(0.2)

    def leave(self) -> None:
        """Use it no more; where nobody else does, end it."""
        fcntl.flock(self._users, fcntl.LOCK_UN)
        with suppress(BlockingIOError):
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whoever comes now waits until it has ended
            self._end()
        os.close(self._users)

    def _end(self) -> None:
        """Ask it to end, and after a while no more ask."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            _, *process = self._about.read_text().split()
            if process and self._runs():
                os.kill(int(process[0]), number)
            deadline = time.monotonic() + ENDING_SECONDS
            while self._runs() and time.monotonic() < deadline:
                time.sleep(0.1)
        if self._process is not None:
            self._process.wait(ENDING_SECONDS)

    def _runs(self) -> bool:
        with self._lock_if_free() as lock:
            return lock is None

    @contextmanager
    def _lock_if_free(self) -> Generator[int | None]:
        """The server's lock, or None where a server holds it."""
        descriptor = os.open(self._about, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield descriptor
        except BlockingIOError:
            yield None
        finally:
            os.close(descriptor)


def with_few_statements(url: str) -> str:
    """The database's address, with which a connection to SQLite keeps a few statements ready and not 128: inserting 20 events is another one than
    inserting 19, takes 40 kB, and each connection has its own."""
    return f"{url}?cached_statements={CACHED_STATEMENTS}" if url.startswith("sqlite") and "?" not in url else url


def free_port(before: Sequence[str] = ()) -> int:
    """The port that it had before, which those who miss it go on asking, or one that is free."""
    for port in (*(int(text) for text in before[:1]), 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    raise UserError("no port is free on this machine for Prefect's server: set PREFECT_API_URL to one that runs elsewhere")


def answers(url: str, timeout_seconds: float = 1.0) -> bool:
    """Whether a Prefect API is healthy at `url`."""
    try:
        return httpx.get(f"{url}/health", timeout=timeout_seconds, verify=_certificates()).status_code == 200
    except httpx.TransportError:
        return False


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: it takes forty times as long as asking, and whoever waits for a server that starts asks often."""
    return httpx.create_ssl_context()


def ui_address() -> str:
    """Where `atradiff ui` serves."""
    return f"http://{PREFECT_SERVER_API_HOST.value()}:{PREFECT_SERVER_API_PORT.value()}"


def seen_by_others(setting: Setting = PREFECT_SERVER_API_HOST) -> str | None:
    """A sentence for the user where the host that Prefect's setting names is more than this machine; else None."""
    host = str(setting.value())
    if host == "localhost" or (re.fullmatch(r"[\d.:a-fA-F]+", host) and ip_address(host).is_loopback):
        return None
    return f"it listens on {host}, so everybody who reaches this machine can see and change the runs: unset {setting.name} to keep them to it"


class ApiServer:
    """The API that a run reports to: PREFECT_API_URL, else the server that `atradiff ui` started, else the one that runs without either share.

    Entering it starts that one where it is needed; until `connect` the caller does something useful meanwhile.
    """

    def __init__(self) -> None:
        self._shared: SharedServer | None = None
        self._settings = ExitStack()

    def __enter__(self) -> Self:
        if url := PREFECT_API_URL.value():
            if not answers(url, BUSY_SECONDS):
                raise UserError(f"no Prefect server answers at PREFECT_API_URL {url}: start it, or unset PREFECT_API_URL")
        elif not answers(f"{ui_address()}/api", BUSY_SECONDS):  # where none is, that is told at once
            self._shared = SharedServer(PREFECT_HOME.value())
        return self

    def connect(self) -> str:
        """Have all that follows report there; returns the API's address, for other processes."""
        if self._shared is not None:
            self._shared.wait()
        url = self._shared.url if self._shared is not None else PREFECT_API_URL.value() or f"{ui_address()}/api"
        self._settings.enter_context(temporary_settings({PREFECT_API_URL: url}))
        return url

    @property
    def has_pages(self) -> bool:
        """Whether runs can be looked at there; the shared server shows none."""
        return self._shared is None

    def revive(self) -> None:
        """Where the shared server is gone, start it again; any other is not ours to start."""
        if self._shared is not None:
            self._shared.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shared is not None:
            EventsWorker.drain_all(timeout=DRAIN_SECONDS)  # what is still on its way must arrive before the server goes
            APILogHandler().flush()
            self._shared.leave()
        self._settings.close()


def require_no_ui() -> None:
    """Refuse to serve where a server is."""
    if answers(f"{ui_address()}/api"):
        raise UserError(f"a Prefect server already runs at {ui_address()}: open that, or stop it first")


def serve_ui() -> NoReturn:
    """Become the server of the API and the pages at `ui_address`. Where the browser reaches the API elsewhere, PREFECT_SERVER_UI_API_URL says so."""
    host, port = PREFECT_SERVER_API_HOST.value(), str(PREFECT_SERVER_API_PORT.value())
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", port, "--log-level", "WARNING"]
    os.execve(sys.executable, command, {"PREFECT_SERVER_UI_API_URL": f"{ui_address()}/api", **os.environ})
