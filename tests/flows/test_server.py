"""The pages are for this machine alone, unless the user says otherwise and is told."""

from __future__ import annotations

import pytest
from prefect.settings import PREFECT_RUNNER_SERVER_ENABLE, PREFECT_RUNNER_SERVER_HOST, PREFECT_SERVER_API_HOST, temporary_settings

from atradiff.flows.serve import serving_seen_by_others
from atradiff.flows.server import seen_by_others


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
