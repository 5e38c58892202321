"""The documentation as a site: built, opened from the disk, and searched where it is served."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ui.visit import Visit

pytestmark = pytest.mark.xdist_group("docs")


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
    pictured = [page for page in sorted(folder.rglob("*.html")) if "<img" in page.read_text()]
    assert len(pictured) > 2
    for page in pictured:
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
