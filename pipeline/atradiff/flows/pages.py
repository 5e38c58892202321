"""What a run shows in Prefect's pages, sent from a thread of its own: a run never waits for the server, and goes on without it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from types import TracebackType
from typing import Self

import httpx
from prefect.exceptions import PrefectHTTPStatusError

AWAY = (httpx.TransportError, PrefectHTTPStatusError)
"""What a server is told by that cannot be reached, or says that it is unwell."""
RETRY_SECONDS = 5.0
CLOSING_SECONDS = 10.0


class Pages:
    """Things to show, each under a name; of those that wait under one name only the newest is sent.

    Where the server is away (its connection fails, or it says that it is unwell) they wait until it is back. `tell` hears of both, and `revive` is
    called before each new try.
    """

    def __init__(self, tell: Callable[[str], None], revive: Callable[[], None]) -> None:
        self._tell, self._revive = tell, revive
        self._waiting: dict[str, tuple[Context, Callable[[], object]]] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """What still waits is given a last try, and goes on being sent as long as some of it arrives every few seconds. An error that was not the
        server's absence is raised."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        waited = -1
        while self._thread.is_alive() and waited != len(self._waiting):
            waited = len(self._waiting)
            self._thread.join(CLOSING_SECONDS)
        if self._thread.is_alive():
            self._tell("Prefect's server takes too long: its pages of this run are not the newest, the run's report is")
        if kind is None and self._failure is not None:
            raise self._failure

    def show(self, name: str, send: Callable[[], object]) -> None:
        """Have `send` called soon, in the context of now. An error of an earlier call that was not the server's absence is raised here."""
        if self._failure is not None:
            raise self._failure
        with self._changed:
            self._waiting[name] = copy_context(), send
            self._changed.notify()

    def _work(self) -> None:
        away = False
        while (next_one := self._next()) is not None:
            name, (context, send) = next_one
            try:
                context.run(send)
            except AWAY as error:
                if not away:
                    self._tell(f"Prefect's server does not answer ({type(error).__name__}): the run goes on without it, and reports again when it is back")
                away = True
                if self._closing.is_set():
                    return
                with self._changed:
                    self._waiting.setdefault(name, (context, send))
                self._closing.wait(RETRY_SECONDS)
                self._revive()
            except BaseException as error:  # raised where the run shows something next
                self._failure = error
                return
            else:
                if away:
                    self._tell("Prefect's server is back: the run reports again")
                away = False

    def _next(self) -> tuple[str, tuple[Context, Callable[[], object]]] | None:
        """What has waited longest, or None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            if not self._waiting:
                return None
            name = next(iter(self._waiting))
            return name, self._waiting.pop(name)
