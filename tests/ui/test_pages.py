"""What people look at while they run something: a run is started from Prefect's form, and its report and its pages are looked at."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from atradiff.flows.run_folder import RunFolder
from atradiff.flows.server import free_port
from atradiff.project.layout import Layout
from atradiff.reporting.report import CAPTIONS
from projects import online_params
from ui.visit import Visit

pytestmark = pytest.mark.xdist_group("pages")
NAME = "tiny-atradiff-seed2"
GOES_ON = ("SCHEDULED", "PENDING", "RUNNING")
ATRADIFF = Path(sys.executable).parent / "atradiff"


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """`atradiff ui` with a database of its own: its address, and the environment in which runs report there."""
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")), "PREFECT_SERVER_API_PORT": str(port)}
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen([ATRADIFF, "ui"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(f"{address}/api/health", server)
            yield address, environment
        finally:
            server.terminate()


def _wait_for(url: str, process: subprocess.Popen[bytes], until: Callable[[Any], bool] = lambda answer: True) -> Any:
    """What the server answers there, once it answers as it is to, while the process runs."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        with suppress(httpx.TransportError):
            answer = httpx.get(url, timeout=5, verify=False)  # certificates take longer to read than the page
            if answer.status_code == 200 and until(answer.json()):
                return answer.json()
        time.sleep(0.2)
    raise AssertionError(f"nothing answered as it should at {url}")


def _post(url: str, told: dict[str, Any]) -> str:
    """The id of what the server makes of it; asked again while its database is busy, as Prefect's own client asks."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        answer = httpx.post(url, json=told, timeout=60, verify=False)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return answer.raise_for_status().json()["id"]
        time.sleep(0.5)
    raise AssertionError(f"the server was busy for five minutes at {url}")


@pytest.fixture(scope="module")
def killed(ui: tuple[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a flow run that is said to be running, in a folder that no process holds."""
    api = f"{ui[0]}/api"
    flow = _post(f"{api}/flows/", {"name": "atradiff-online"})
    told = {"flow_id": flow, "name": "killed", "parameters": {"run_folder": str(tmp_path_factory.mktemp("killed"))}, "state": {"type": "RUNNING"}}
    return _post(f"{api}/flow_runs/", told)


@pytest.fixture(scope="module")
def run(ui: tuple[str, dict[str, str]], killed: str, online_project: Layout) -> Path:
    """A run of the small project, started as the form of `atradiff serve`'s deployment does it; the folder."""
    beside = RunFolder.create(online_project.root / "runs" / "beside", online_params(), "rlpd", 0, online_project)
    beside.append_metrics({"env_steps": 0, "eval/success_rate": 0.0, "eval/return": 0.0, "time/seconds": 1.0})
    api, environment = f"{ui[0]}/api", {**ui[1], "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    with subprocess.Popen([ATRADIFF, "serve"], cwd=online_project.root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as serve:
        try:
            deployment = _wait_for(f"{api}/deployments/name/atradiff-start/tiny", serve)["id"]
            asked = {"parameters": {"seed": 2, "settings": ["agent.tau=0.25"]}, "state": {"type": "SCHEDULED"}}
            started = _post(f"{api}/deployments/{deployment}/create_flow_run", asked)
            ended = _wait_for(f"{api}/flow_runs/{started}", serve, lambda flow_run: flow_run["state_type"] not in GOES_ON)
        finally:
            serve.terminate()
    assert (ended["name"], ended["state_type"]) == ("start atradiff seed 2", "COMPLETED"), ended["state"]
    return online_project.root / "runs" / NAME


def test_a_run_that_was_started_from_the_form_has_its_parameters(run: Path) -> None:
    folder = RunFolder.open(run)
    assert (folder.about()["seed"], folder.params().agent.tau) == (2, 0.25)
    assert folder.metrics()[-1]["env_steps"] == 60


def test_a_link_leads_from_the_form_to_the_run(run: Path, ui: tuple[str, dict[str, str]], visit: Visit) -> None:
    visit.page.goto(f"{ui[0]}/artifacts/key/started")
    visit.page.locator("a[href*='/artifacts/artifact/']").first.click()
    link = visit.page.get_by_role("link", name="the run and its pictures").first
    link.wait_for()
    visit.page.goto(link.get_attribute("href") or "")
    visit.page.get_by_text("evaluate to 60").first.wait_for()


def test_the_report_shows_every_picture_and_fits_a_telephone(run: Path, visit: Visit) -> None:
    visit.page.goto((run / "report.html").as_uri())
    assert visit.page.locator("h1").inner_text() == NAME
    widths = visit.pictures()
    assert list(widths) == list(CAPTIONS)
    assert min(widths.values()) > 300
    headings = visit.page.locator("h2").all_inner_texts()
    assert {"Evaluations", "Where the time went in all", "What the pruner did", "The last adaptation", "Where it comes from"} <= set(headings)
    visit.page.get_by_text("Settings", exact=True).click()
    assert visit.page.get_by_text("synthetic_ratio: 0.5").is_visible()
    visit.page.set_viewport_size({"width": 380, "height": 800})
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 380
    assert (visit.abroad, visit.errors) == ([], [])


def test_the_next_run_marks_a_killed_one_crashed(run: Path, killed: str, ui: tuple[str, dict[str, str]]) -> None:
    state = httpx.get(f"{ui[0]}/api/flow_runs/{killed}").raise_for_status().json()["state"]
    assert (state["type"], state["message"]) == ("CRASHED", "its process is gone: --resume goes on with it")


def test_prefects_pages_show_the_run_its_phases_and_its_pictures(run: Path, ui: tuple[str, dict[str, str]], visit: Visit) -> None:
    address, _ = ui
    visit.page.goto(f"{address}/runs")
    visit.page.get_by_text(NAME, exact=True).first.click()
    visit.page.get_by_text("Completed").first.wait_for()
    for tag in ("tiny", "atradiff", "seed-2"):
        visit.page.get_by_text(tag, exact=True).first.wait_for()
    visit.page.get_by_text("evaluate to 60").first.wait_for()
    visit.page.goto(f"{address}/artifacts/key/{NAME}-imagined")
    visit.page.locator("a[href*='/artifacts/artifact/']").first.click()
    visit.page.wait_for_function("[...document.images].some(image => image.src.startsWith('data:image/svg') && image.naturalWidth > 300)")
    visit.page.goto(f"{address}/artifacts/key/{NAME}-evaluations")
    visit.page.locator("a[href*='/artifacts/artifact/']").first.click()
    visit.page.get_by_text("success", exact=True).first.wait_for()
    assert visit.errors == []
