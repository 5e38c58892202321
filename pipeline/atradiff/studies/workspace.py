"""A workspace: a project folder of its own for the cells that share trained models, with its own params.yaml and DVC record."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from atradiff.errors import UserError
from atradiff.params.load import with_settings
from atradiff.params.presets import preset
from atradiff.params.render import render_yaml
from atradiff.params.schema import Params
from atradiff.project.layout import PARAMS_FILE, Layout
from atradiff.project.runs import STUDY_RUNS
from atradiff.studies.cells import Cell, Settings

CODE = "components"  # what the stages in dvc.yaml depend on
DVC_CONFIG = """\
[core]
    analytics = false
    no_scm = true
[cache]
    dir = {cache}
"""


@dataclass(frozen=True)
class Workspace:
    """`root` is the project's folder, `path` the workspace's below it; `offline` are the settings its stages run with."""

    root: Path
    path: Path
    task: str
    offline: Settings

    def params(self) -> Params:
        """What its stages read."""
        return with_settings(preset(self.task), self.offline, self.path.name)

    @property
    def layout(self) -> Layout:
        """Where its stages write."""
        return Layout(self.path, self.params().task.name)

    @property
    def log(self) -> Path:
        """What its stages printed."""
        return self.path / "offline.log"

    def write(self) -> None:
        """Everything that `dvc repro` needs here. Results that are there stay.

        The code that the stages depend on is a copy: so a change of the code in the middle of a study does not make its models stale.
        Trained models go into the project's own cache, so that no two workspaces train the same one.
        """
        for name in ("dvc.yaml", ".dvc", CODE):
            if not (self.root / name).exists():
                raise UserError(f"there is no {name} in {self.root}, but a study runs the offline stages: start it in a checkout of the project")
        (self.path / ".dvc").mkdir(parents=True, exist_ok=True)
        cache = os.path.relpath(self.root / ".dvc" / "cache", self.path / ".dvc")
        (self.path / ".dvc" / "config").write_text(DVC_CONFIG.format(cache=cache))
        for name in ("dvc.yaml", ".dvcignore"):
            shutil.copy(self.root / name, self.path / name)
        (self.path / PARAMS_FILE).write_text(render_yaml(self.params()))
        shutil.rmtree(self.path / CODE, ignore_errors=True)
        shutil.copytree(self.root / CODE, self.path / CODE, ignore=shutil.ignore_patterns("__pycache__"))


def workspace_of(cell: Cell, root: Path, study: str) -> Workspace:
    """The workspace of a cell: named after the task, with a fingerprint of the offline settings where there are any."""
    fingerprint = hashlib.sha256(json.dumps(cell.offline, sort_keys=True).encode()).hexdigest()[:8]
    name = cell.task.replace("/", "-") + (f"-{fingerprint}" if cell.offline else "")
    return Workspace(root, root / STUDY_RUNS / study / name, cell.task, cell.offline)
