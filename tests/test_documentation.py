"""What README and docs/ tell a user to type or to open is there: commands and their options, keys of params.yaml, tasks, make targets, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atradiff.cli import app
from atradiff.params.keys import all_keys
from atradiff.params.presets import preset
from projects import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Dockerfile", *sorted((ROOT / "docs").glob("*.md"))]
SECTIONS = {name.partition(".")[0] for name in all_keys()}
NO_KEYS = {"agent.pt"}


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def text(request: pytest.FixtureRequest) -> str:
    return request.param.read_text()


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `atradiff ...` in a block of code or between backticks, without what the shell does with them."""
    for line in re.findall(r"`atradiff ([^`]+)`|^    atradiff (.*)|&& atradiff (.*)", text, re.MULTILINE):
        typed = "".join(line).partition(" # ")[0]
        if not re.search(r"COMMAND|\.\.\.|--install-completion", typed):  # which would change the user's shell
            yield shlex.split(re.split(r" [|>] | && ", typed)[0])


@cache
def known(*arguments: str) -> bool:
    """Whether the program knows the command and its options: where it does, --help comes before anything is done or asked for."""
    return CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0


def test_the_program_knows_every_command(text: str) -> None:
    assert [arguments for arguments in commands(text) if not known(*arguments)] == []


@pytest.mark.parametrize("slip", ["online run --sead 3 > summary.json   # all of it", "online rum", "usee hopper"])
def test_a_slip_is_noticed(slip: str) -> None:
    (typed,) = commands(f"    atradiff {slip}\n")
    assert not known(*typed)


def test_every_task_is_there(text: str) -> None:
    for arguments in commands(text):
        if arguments[0] == "use" and len(arguments) > 1 and re.fullmatch(r"[a-z0-9-]+", arguments[1]):
            preset(arguments[1], arguments[arguments.index("--data") + 1] if "--data" in arguments else None)


def test_every_setting_is_a_key(text: str) -> None:
    told = set(re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+)(?:[:=][^`]*)?`", text)) | set(re.findall(r"--set ([a-z_.]+)=", text))
    of_params = {name for name in told if name.partition(".")[0] in SECTIONS} - NO_KEYS
    assert of_params <= set(all_keys())


def test_every_make_target_is_there(text: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE)) <= targets


def test_links_between_files_lead_somewhere(request: pytest.FixtureRequest, text: str) -> None:
    page: Path = request.node.callspec.params["text"]
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_site_shows_every_page_and_none_that_is_not_there() -> None:
    shown = re.findall(r"^ +- (?:.+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))


def test_each_page_of_results_has_a_title_of_its_own_on_the_site() -> None:
    """A study of one name on several tasks has the same heading on each of its pages."""
    titles = re.findall(r"^ +- (.+): results/\S+\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(set(titles)) == len(list((ROOT / "docs" / "results").glob("*.md")))
