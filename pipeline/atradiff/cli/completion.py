"""What the shell completes: tasks, runs, algorithms, parameters. Answered without the heavy libraries, as someone waits at a key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def runs(incomplete: str) -> list[str]:
    """Names of the runs below runs/."""
    from atradiff.project.runs import RUNS

    return _runs(RUNS, incomplete)


def offline_runs(incomplete: str) -> list[str]:
    """Names of the runs below runs/offline/."""
    from atradiff.project.runs import OFFLINE_RUNS

    return _runs(OFFLINE_RUNS, incomplete)


def datasets(incomplete: str) -> list[str]:
    """Ids of the Minari datasets on this machine."""
    folder = Path(os.environ.get("MINARI_DATASETS_PATH", "~/.minari/datasets")).expanduser()
    ids = (data.parent.relative_to(folder).as_posix() for data in sorted(folder.rglob("data")) if data.is_dir())
    return [dataset for dataset in ids if dataset.startswith(incomplete)]


def tasks(incomplete: str) -> list[tuple[str, str]]:
    """Names of the tasks that come with the project, each with what is to be done."""
    from atradiff.params.tasks import TASKS

    return [(name, task.about) for name, task in TASKS.items() if name.startswith(incomplete)]


def algorithms(incomplete: str) -> list[tuple[str, str]]:
    """Names of the algorithms, each with its paper."""
    from atradiff.params.algorithms import ALGORITHMS, OFFLINE_ALGORITHMS

    return [(name, algorithm.paper) for name, algorithm in (ALGORITHMS | OFFLINE_ALGORITHMS).items() if name.startswith(incomplete)]


def settings(incomplete: str) -> list[str]:
    """Keys of params.yaml as `section.key=`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    root = _root()
    if root is None:
        return []
    try:
        values = YAML(typ="safe", pure=True).load((root / "params.yaml").read_text())
    except (OSError, ValueError, YAMLError):  # the command itself will tell; a shell that completes can only stay quiet
        return []
    return [f"{name}=" for name in _names(values, "") if name.startswith(incomplete)]


def _names(values: Any, before: str) -> list[str]:
    if not isinstance(values, dict):
        return [before]
    return [name for key, value in values.items() for name in _names(value, f"{before}.{key}" if before else str(key))]


def _runs(below: str, incomplete: str) -> list[str]:
    from atradiff.project.runs import run_names

    root = _root()
    return [name for name in run_names(root, below) if name.startswith(incomplete)] if root else []


def _root() -> Path | None:
    from atradiff.errors import UserError
    from atradiff.project.layout import find_root

    try:
        return find_root(Path.cwd())
    except UserError:
        return None
