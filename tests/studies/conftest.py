from __future__ import annotations

from pathlib import Path

import pytest

from fake_runs import FakeRunner


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project folder as a study needs it."""
    for name in (".dvc", "components/atradiff/__pycache__"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("dvc.yaml", ".dvcignore", "components/atradiff/code.py", "components/atradiff/__pycache__/code.pyc"):
        (tmp_path / name).write_text(f"this is {name}")
    return tmp_path
