"""What a run leaves out of Prefect's own log."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOSE_AN_EVENT = """
import logging
import sys
from rich.console import Console
from atradiff.flows.flow import _log_beside_the_bar

if sys.argv[1] == "beside the bar":
    _log_beside_the_bar(Console())
logging.getLogger("prefect._internal.concurrency").error("Service 'EventsWorker' failed to process item")
"""


@pytest.mark.parametrize(("how", "told"), [("as Prefect does", True), ("beside the bar", False)])
def test_events_that_a_server_has_not_been_told_of_are_not_printed(how: str, told: bool) -> None:
    """Prefect prints each of them whole, a page long. Its log is set up once for each process, hence one of its own."""
    done = subprocess.run([sys.executable, "-c", LOSE_AN_EVENT, how], capture_output=True, text=True, check=True)
    assert ("EventsWorker" in done.stdout + done.stderr) == told
