"""What people look at, looked at: the report of a run, Prefect's pages, the documentation."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from atradiff.flows.run_folder import RunFolder
from atradiff.project.layout import Layout
from atradiff.reporting.report import CAPTIONS
from ui.visit import Visit

NAME = "tiny-atradiff-seed0"
ATRADIFF = Path(sys.executable).parent / "atradiff"


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """`atradiff ui` with a database of its own: its address, and the environment in which runs report there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")), "PREFECT_SERVER_API_PORT": str(port)}
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen([ATRADIFF, "ui"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(f"{address}/api/health", server)
            yield address, environment
        finally:
            server.terminate()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert server.poll() is None, f"`atradiff ui` ended with {server.returncode}"
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"nothing answered at {url}")


@pytest.fixture(scope="module")
def killed(ui: tuple[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a flow run that is said to be running, in a folder that no process holds."""
    api = f"{ui[0]}/api"
    flow = httpx.post(f"{api}/flows/", json={"name": "atradiff-online"}).raise_for_status().json()["id"]
    told = {"flow_id": flow, "name": "killed", "parameters": {"run_folder": str(tmp_path_factory.mktemp("killed"))}, "state": {"type": "RUNNING"}}
    return httpx.post(f"{api}/flow_runs/", json=told).raise_for_status().json()["id"]


@pytest.fixture(scope="module")
def run(ui: tuple[str, dict[str, str]], killed: str, online_project: Layout) -> Path:
    """A run of the small project, as the command does it; the folder."""
    command = [ATRADIFF, "online", "run", "--track", "tensorboard"]
    done = subprocess.run(command, cwd=online_project.root, env=ui[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return online_project.root / "runs" / NAME


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


def test_tensorboard_reads_what_the_run_sent(run: Path) -> None:
    events = EventAccumulator(str(run)).Reload()
    rows = RunFolder.open(run).metrics()
    assert [(event.step, event.value) for event in events.Scalars("eval/return")] == [(row["env_steps"], row["eval/return"]) for row in rows]
    assert len(rows) == 4


def test_prefects_pages_show_the_run_its_phases_and_its_pictures(run: Path, ui: tuple[str, dict[str, str]], visit: Visit) -> None:
    address, _ = ui
    visit.page.goto(f"{address}/runs")
    visit.page.get_by_text(NAME, exact=True).first.click()
    visit.page.get_by_text("Completed").first.wait_for()
    for tag in ("tiny", "atradiff", "seed-0"):
        visit.page.get_by_text(tag, exact=True).first.wait_for()
    visit.page.get_by_text("evaluate to 60").first.wait_for()
    visit.page.goto(f"{address}/artifacts/key/{NAME}-imagined")
    visit.page.locator("a[href*='/artifacts/artifact/']").first.click()
    visit.page.wait_for_function("[...document.images].some(image => image.src.startsWith('data:image/svg') && image.naturalWidth > 300)")
    visit.page.goto(f"{address}/artifacts/key/{NAME}-evaluations")
    visit.page.locator("a[href*='/artifacts/artifact/']").first.click()
    visit.page.get_by_text("eval/success_rate").first.wait_for()
    assert visit.errors == []


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The documentation, built, and an address at which it is served."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=root, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, format: str, *values: object) -> None:
            del format, values

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_documentation_opens_from_the_disk_without_a_network(site: tuple[Path, str], visit: Visit) -> None:
    folder, _ = site
    for page in sorted(folder.rglob("*.html")):
        visit.page.goto(page.as_uri())
        assert 0 not in visit.pictures().values(), page
    visit.page.goto((folder / "index.html").as_uri())
    visit.page.get_by_role("link", name="a tour of five minutes", exact=True).click()
    assert visit.page.locator("h1").inner_text().startswith("A tour of five minutes")
    visit.page.goto((folder / "reference" / "synthesis.html").as_uri())
    assert "One trajectory from each of" in visit.page.locator("article").inner_text()  # a docstring
    assert (visit.abroad, visit.errors) == ([], [])


def test_the_documentation_is_searched_where_it_is_served(site: tuple[Path, str], visit: Visit) -> None:
    _, address = site
    visit.page.goto(address)
    visit.page.keyboard.press("s")
    visit.page.keyboard.type("dry-run")
    visit.page.locator(".md-search-result__link", has_text="Before a run").first.wait_for()
    assert (visit.abroad, visit.errors) == ([], [])
