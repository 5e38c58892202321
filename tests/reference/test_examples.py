"""Every script in examples/ runs as its first lines say, for a few steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atradiff.project.layout import Layout
from projects import ROOT

CALLS = {
    "python_api.py": [[]],
    "sb3.py": [["--algorithm", "SAC"], ["--library", "sbx", "--algorithm", "TD3"]],
    "torchrl_sac.py": [[]],
}


def test_every_example_is_run() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(CALLS)


@pytest.mark.parametrize(("script", "options"), [(name, options) for name, calls in CALLS.items() for options in calls])
def test_it_runs(script: str, options: list[str], online_project: Layout, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / script), "--project", str(online_project.root), "--steps", "150", *options]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "150 real and " in done.stdout
    share = int(done.stdout.rstrip().rpartition(", ")[2].split("%")[0])
    assert 30 < share < 70  # half, but for requests that are still waiting


def test_an_agent_without_a_policy_for_goals_is_refused_in_a_sentence(online_project: Layout) -> None:
    command = [sys.executable, str(ROOT / "examples" / "sb3.py"), "--project", str(online_project.root), "--library", "sbx", "--algorithm", "DDPG"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("error: SBX's DDPG has no policy for an environment with goals: take --algorithm TD3 or SAC, or --library stable_baselines3\n")
