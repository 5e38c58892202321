"""The deployment's flow, with another program in the place of ours; `tests/ui` starts a run from Prefect's pages."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.schemas.objects import StateType
from prefect.utilities.callables import parameter_schema

from atradiff.errors import UserError
from atradiff.flows import serve


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the run logs."""
    told: list[str] = []
    logger = logging.getLogger("test-serve")
    monkeypatch.setattr(logger, "info", told.append)
    monkeypatch.setattr(serve, "get_run_logger", lambda: logger)
    return told


def test_the_parameters_are_the_commands_options(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/echo")
    serve.start_run.fn("rlpd", 3, 50, "redq", ["agent.tau=0.1", "agent.width=8"])
    serve.start_run.fn()
    assert lines == [
        "-m atradiff.cli online run --arm rlpd --seed 3 --env-steps 50 --algorithm redq --set agent.tau=0.1 --set agent.width=8",
        "-m atradiff.cli online run --arm atradiff --seed 0",
    ]


def test_a_run_that_fails_is_told_with_its_last_line(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/ls")
    ended = serve.start_run.fn()
    assert ended is not None
    assert (ended.type, ended.message) == (StateType.FAILED, f"the run ended with exit code 2: {lines[-1]}")


def test_a_link_leads_to_the_run(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    page = "http://127.0.0.1:4200/runs/flow-run/12345678-1234-1234-1234-123456789012"
    made: list[str] = []
    monkeypatch.setattr(sys, "executable", "/bin/echo")
    monkeypatch.setattr(serve, "create_link_artifact", lambda link, **about: made.append(link))
    serve.start_run.fn(algorithm=f"shown at {page}")
    assert made == [page]
    assert page in lines[0]


RUN = """
import signal, time
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
print("begun", flush=True)
while not heard:
    time.sleep(0.01)
time.sleep(1.5)
print(f"heard {len(heard)} signals", flush=True)
"""
FLOW = """
import signal, sys, time
from functools import partial
from types import SimpleNamespace
from atradiff.flows import serve
serve.get_run_logger = lambda: SimpleNamespace(info=partial(print, flush=True))
def end(*_):
    time.sleep(0.3)  # or the two would come at once, and be heard as one
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
sys.executable = sys.argv[1]
serve.start_run.fn()
"""


def test_a_cancelled_run_gets_one_signal_and_is_heard_to_its_end(tmp_path: Path) -> None:
    """Prefect's runner starts a flow run in a session of its own, and cancels it by a signal to all of its group. A second signal would end the run
    without a checkpoint."""
    run = tmp_path / "run"
    run.write_text(f"#!{sys.executable}{RUN}")
    run.chmod(0o755)
    with subprocess.Popen([sys.executable, "-c", FLOW, run], stdout=subprocess.PIPE, text=True, start_new_session=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "begun\n"
        os.killpg(started.pid, signal.SIGTERM)
        assert started.stdout.read() == "heard 1 signals\n"
    assert started.returncode == 0


def test_the_pages_know_what_each_parameter_is() -> None:
    schema = parameter_schema(serve.start_run.fn).model_dump()["properties"]
    assert schema["arm"]["enum"] == ["atradiff", "agent", "rlpd"]
    assert schema["seed"]["minimum"] == 0
    assert all(parameter["description"] for parameter in schema.values())


def test_without_a_server_there_is_nothing_to_serve_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_PORT", "9")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(serve, "ui_address", lambda: "http://127.0.0.1:9")
    with pytest.raises(UserError, match="start one with `atradiff ui`"):
        serve.server_url()
