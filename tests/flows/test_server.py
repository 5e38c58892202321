"""The pages are for this machine alone, unless the user says otherwise and is told."""

from __future__ import annotations

import os

import pytest
from prefect.settings import (
    PREFECT_RUNNER_SERVER_ENABLE,
    PREFECT_RUNNER_SERVER_HOST,
    PREFECT_SERVER_API_HOST,
    PREFECT_SERVER_API_PORT,
    temporary_settings,
)

from atradiff.errors import UserError
from atradiff.flows import server
from atradiff.flows.serve import serving_seen_by_others
from atradiff.flows.server import BUSY_SECONDS, ApiServer, require_no_ui, seen_by_others, serve_ui, ui_address


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "localhost", "::1"])
def test_loopback_is_seen_by_nobody_else(host: str) -> None:
    with temporary_settings({PREFECT_SERVER_API_HOST: host}):
        assert seen_by_others() is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "workstation"])
def test_anything_else_is_told(host: str) -> None:
    with temporary_settings({PREFECT_SERVER_API_HOST: host}):
        assert (told := seen_by_others()) is not None
    assert f"listens on {host}" in told


def test_the_default_is_loopback() -> None:
    assert seen_by_others() is None


def test_serving_listens_to_nobody_unless_told_otherwise() -> None:
    assert serving_seen_by_others() is None
    with temporary_settings({PREFECT_RUNNER_SERVER_HOST: "0.0.0.0"}):
        assert serving_seen_by_others() is None
        with temporary_settings({PREFECT_RUNNER_SERVER_ENABLE: True}):
            assert "listens on 0.0.0.0" in str(serving_seen_by_others())


def test_a_second_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "answers", lambda url: url == f"{ui_address()}/api")
    with pytest.raises(UserError, match=r"already runs at .*: open that, or stop it first"):
        require_no_ui()


def test_a_run_has_patience_with_pages_that_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second server on the same database would lock it for both."""
    monkeypatch.setattr(server, "answers", lambda url, timeout_seconds=1.0: timeout_seconds == BUSY_SECONDS)
    with ApiServer() as found:
        assert found.has_pages


@pytest.mark.parametrize("told", [None, "http://localhost:4200/api"])
def test_the_pages_ask_the_server_itself_unless_told_where_else_it_is_reached(told: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As out of a container, whose server listens on 0.0.0.0, which is no address that a browser can ask."""
    began: list[str] = []
    monkeypatch.setattr(os, "execve", lambda program, command, environment: began.append(environment["PREFECT_SERVER_UI_API_URL"]))
    monkeypatch.delenv("PREFECT_SERVER_UI_API_URL", raising=False)
    if told is not None:
        monkeypatch.setenv("PREFECT_SERVER_UI_API_URL", told)
    with temporary_settings({PREFECT_SERVER_API_PORT: 9}):
        serve_ui()
        assert began == [told or f"{ui_address()}/api"]
