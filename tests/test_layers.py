"""Components compute: they know neither the workflow engine, nor the command line, nor how anything is shown."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

COMPONENTS = Path(__file__).parent.parent / "components" / "atradiff"
FORBIDDEN = {"prefect", "typer", "dvc", "rich", "pydantic", "matplotlib"}
ROOMS = ["errors", "trajectory graphs products untrusted numbers", "data", "replay diffusion", "synthesis agents", "online"]
"""From the bottom up; rooms on one line are siblings that do not know each other."""


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", sorted(COMPONENTS.rglob("*.py")), ids=lambda path: path.relative_to(COMPONENTS).as_posix())
def test_imports_go_down_only(path: Path) -> None:
    names = imported(path)
    assert not {name.split(".")[0] for name in names} & FORBIDDEN
    level = {room: depth for depth, rooms in enumerate(ROOMS) for room in rooms.split()}
    ours = path.relative_to(COMPONENTS).parts[0].removesuffix(".py")
    for name in names:
        if name.startswith("atradiff."):
            theirs = name.split(".")[1]
            assert theirs == ours or level[theirs] < level[ours], f"{ours} imports {theirs}"


def test_only_their_rooms_know_zarr_and_minari() -> None:
    for library, rooms in (("zarr", {"data/store.py"}), ("minari", {"data/convert.py", "data/collect.py", "data/record.py"})):
        found = {
            p.relative_to(COMPONENTS).as_posix() for p in COMPONENTS.rglob("*.py") if any(n.split(".")[0] == library for n in imported(p))
        }
        assert found == rooms
