from __future__ import annotations

import threading
import time
from collections.abc import Callable

import httpx
import pytest

from atradiff.flows import pages
from atradiff.flows.pages import Pages


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "RETRY_SECONDS", 0.01)


class Server:
    """Takes what is sent while it is there."""

    def __init__(self) -> None:
        self.there, self.got, self.tries = True, list[str](), 0

    def take(self, text: str) -> None:
        self.tries += 1
        if not self.there:
            raise httpx.ConnectError("nobody")
        self.got.append(text)


def wait_for(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_is_shown_while_the_server_is_away_arrives_when_it_is_back() -> None:
    server, told, revived = Server(), list[str](), list[int]()
    with Pages(told.append, lambda: revived.append(1)) as shown:
        shown.show("progress", lambda: server.take("progress 1"))
        wait_for(lambda: server.got == ["progress 1"])
        server.there = False
        for step in (2, 3, 4):
            shown.show("progress", lambda step=step: server.take(f"progress {step}"))
        shown.show("table", lambda: server.take("table"))
        wait_for(lambda: server.tries > 4)
        server.there = True
        wait_for(lambda: len(server.got) == 3)
    assert sorted(server.got) == ["progress 1", "progress 4", "table"]  # of those under one name only the newest
    assert revived
    assert [text.split(":")[0] for text in told] == ["Prefect's server does not answer (ConnectError)", "Prefect's server is back"]


def test_the_end_does_not_wait_for_a_server_that_stays_away() -> None:
    server, told = Server(), list[str]()
    server.there = False
    began = time.monotonic()
    with Pages(told.append, lambda: None) as shown:
        shown.show("progress", lambda: server.take("1"))
    assert time.monotonic() - began < pages.CLOSING_SECONDS
    assert len(told) == 1


def test_the_end_waits_for_a_slow_server_that_takes_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all together takes longer than an end waits for nothing."""
    monkeypatch.setattr(pages, "CLOSING_SECONDS", 0.5)
    server = Server()

    def slowly(text: str) -> None:
        time.sleep(0.3)
        server.take(text)

    with Pages(pytest.fail, pytest.fail) as shown:
        for picture in range(5):
            shown.show(f"picture {picture}", lambda text=f"{picture}": slowly(text))
    assert server.got == ["0", "1", "2", "3", "4"]


def test_what_does_not_arrive_before_the_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "CLOSING_SECONDS", 0.1)
    told, answered = list[str](), threading.Event()
    with Pages(told.append, lambda: None) as shown:
        shown.show("picture", answered.wait)
    answered.set()
    assert [text.split(":")[0] for text in told] == ["Prefect's server takes too long"]


def test_a_mistake_of_ours_is_no_absence() -> None:
    def wrong() -> None:
        raise TypeError("no such argument")

    shown = Pages(pytest.fail, pytest.fail).__enter__()
    shown.show("table", wrong)
    wait_for(lambda: not shown._thread.is_alive())
    with pytest.raises(TypeError, match="no such argument"):
        shown.show("table", wrong)
    with pytest.raises(TypeError, match="no such argument"):
        shown.__exit__(None, None, None)
