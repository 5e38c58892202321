"""The server that runs share, with a stand-in for Prefect's: what matters here is who starts it, and who ends it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from atradiff.flows import server
from atradiff.flows.server import SharedServer, answers, with_few_statements

STAND_IN = """
import sys, types
from http.server import BaseHTTPRequestHandler, HTTPServer

class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass

uvicorn = types.ModuleType("uvicorn")
uvicorn.run = lambda *_, port, **__: HTTPServer(("127.0.0.1", port), Healthy).serve_forever()
sys.modules["uvicorn"] = uvicorn
import runpy
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Prefect home; everything of the server's process is the real one's, but for uvicorn."""
    monkeypatch.setattr(server, "SERVER", (sys.executable, "-c", STAND_IN, str(Path(server.__file__).with_name("server_process.py"))))
    return tmp_path


def process(home: Path) -> int:
    """The number of the server's process, which it tells when it has begun."""
    wait_until(lambda: len((home / "atradiff-server").read_text().split()) == 2)
    return int((home / "atradiff-server").read_text().split()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_runs_share_a_server_and_the_last_one_ends_it(home: Path) -> None:
    first, second = SharedServer(home), SharedServer(home)
    first.wait()
    second.wait()
    url, only = first.url, process(home)
    assert second.url == url
    first.leave()
    assert answers(url)
    assert process(home) == only
    second.leave()
    assert not answers(url)
    assert first._process is not None
    first._process.wait(10)


def test_a_server_that_was_killed_is_started_again_where_it_was(home: Path) -> None:
    user = SharedServer(home)
    user.wait()
    url, before = user.url, process(home)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not answers(url))
    user.start()
    user.wait()
    assert user.url == url
    assert process(home) != before
    user.leave()


def test_a_server_ends_when_its_users_were_killed(home: Path) -> None:
    user = SharedServer(home)
    user.wait()
    os.close(user._users)  # as the system does when a process is killed
    assert user._process is not None
    assert user._process.wait(30) in (0, -signal.SIGTERM)
    assert not answers(user.url)


def test_a_connection_to_sqlite_keeps_few_statements() -> None:
    """And SQLAlchemy hands that on."""
    url = with_few_statements("sqlite+aiosqlite:////home/prefect.db")
    _, options = make_url(url).get_dialect()().create_connect_args(make_url(url))
    assert options["cached_statements"] == 16
    assert with_few_statements(url) == url
    assert with_few_statements("postgresql+asyncpg://host/prefect") == "postgresql+asyncpg://host/prefect"
