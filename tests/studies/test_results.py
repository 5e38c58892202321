"""From finished cells to the document, the page and the picture; and the command itself, with a runner that only writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from atradiff import cli
from atradiff.project.machine import describe_machine
from atradiff.studies.catalogue import STUDIES
from atradiff.studies.cells import variants_of
from atradiff.studies.execute import execute, find_runs
from atradiff.studies.progress import StudyProgress
from atradiff.studies.report import write_results
from atradiff.studies.results import assemble
from atradiff.studies.runs import CellRun
from fake_runs import OVERRIDES, TASK, FakeRunner, arms

ENDINGS = {".json", ".md", ".svg"}


def document(root: Path, runner: FakeRunner, seeds: int = 1) -> dict[str, Any]:
    """The study `arms`; what the runner lets fail is told."""
    runs = find_runs(arms(seeds), root, "arms")
    with StudyProgress(Console(quiet=True), len(runs), 0) as progress:
        failures = execute(runs, 2, runner, progress)
    return assemble(
        study="arms",
        summary="a comparison",
        command="atradiff study arms",
        date="2026-11-22",
        device="cpu",
        jobs=2,
        seeds=seeds,
        overrides=OVERRIDES,
        variants={TASK: variants_of(STUDIES["arms"], TASK, OVERRIDES)},
        runs=runs,
        failures=failures,
    )


@pytest.fixture
def found(root: Path, runner: FakeRunner) -> dict[str, Any]:
    models = root / "runs" / "studies" / "arms" / TASK / "data" / TASK / "synthesis" / "metrics.json"
    models.parent.mkdir(parents=True)
    errors = {"one_step_error/32": 0.01, "one_step_error/64": 0.03, "one_step_error/real_step": 0.04}
    models.write_text(json.dumps({**errors, "synthesis/milliseconds_per_trajectory": 4.0, "reward/recall": None}))
    return document(root, runner, seeds=3)


def test_every_cell_is_reported_with_where_it_comes_from(found: dict[str, Any]) -> None:
    assert len(found["cells"]) == 9
    cell = found["cells"][0]
    assert (cell["task"], cell["label"], cell["arm"], cell["seed"]) == (TASK, "atradiff", "atradiff", 0)
    assert cell["settings"]["online.env_steps"] == 1_000
    assert cell["curve"] == {"env_steps": [0, 500, 1000], "success": [0.0, 0.5, 1.0]}
    assert (cell["regret"], cell["first_at_level"], cell["holds_from"], cell["failed_episodes"]) == (500.0, 1_000, 1_000, 10)
    assert (found["seeds"], found["failed"], found["git_commits"]) == ([0, 1, 2], [], ["unknown"])
    assert "torch" in found["versions"]
    assert found["machines"] == [describe_machine()]
    assert cell["imagination"]["error_over_real_step"] == pytest.approx(0.75)
    assert cell["imagination"]["milliseconds_per_trajectory"] == 4.0
    assert found["cells"][1]["imagination"] is None


def test_the_seeds_together(found: dict[str, Any]) -> None:
    ours, control, agent = found["rows"]
    assert [row["label"] for row in found["rows"]] == ["atradiff", "rlpd", "agent"]
    assert ours["regret"] == {"value": 500.0, "low": 500.0, "high": 500.0}
    assert ours["ratio"]["value"] == pytest.approx(500 / 750)
    assert control["ratio"]["value"] == 1.0
    assert agent["ratio"]["value"] == pytest.approx(1_000 / 750)
    assert control["holds_from"]["value"] is None, "never"
    assert ours["failed_episodes"]["value"] == 9.0
    assert ours["curve"]["iqm"] == [0.0, 0.5, 1.0]


def test_results_are_the_same_bytes_without_paths(found: dict[str, Any], root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folders = [tmp_path_factory.mktemp("results") for _ in range(2)]
    for folder in folders:
        assert {path.suffix for path in write_results(folder / "deep", found)} == ENDINGS
    for ending in ENDINGS:
        one, two = ((folder / "deep" / f"arms{ending}").read_text() for folder in folders)
        assert one == two
        assert str(root) not in one
    page = (folders[0] / "deep" / "arms.md").read_text()
    assert f"## {TASK}" in page
    assert f"2 at a time; {describe_machine()}; torch " in page
    assert "| atradiff | 3 | 500 | 0.67 | 1,000 | 1,000 | 0 | 9.0 [8.0, 10.0] | 20 | 4,000 | 0.75 | 4.0 |" in page
    assert "| rlpd | 3 | 750 | the control | never | never |" in page
    assert "| variant | regret, seeds 0 to 2 |" in page
    assert "| atradiff | 500 500 500 |" in page
    assert json.loads((folders[0] / "deep" / "arms.json").read_text())["rows"] == found["rows"]


def test_what_failed_is_told_and_not_counted(root: Path, runner: FakeRunner, tmp_path: Path) -> None:
    runner.fails = lambda command: "--arm rlpd --seed 1" in command
    found = document(root, runner, seeds=2)
    assert found["failed"] == [f"{TASK}, rlpd, seed 1: it ended with exit code 3"]
    assert [row["seeds"] for row in found["rows"]] == [2, 1, 2]
    write_results(tmp_path, found)
    page = (tmp_path / "arms.md").read_text()
    assert f"- {TASK}, rlpd, seed 1: it ended with exit code 3" in page
    assert "| rlpd | 750 - |" in page


def test_without_its_control_a_variant_has_no_ratio(root: Path, runner: FakeRunner, tmp_path: Path) -> None:
    runner.fails = lambda command: "--arm rlpd" in command
    found = document(root, runner)
    assert [(row["label"], row["ratio"]) for row in found["rows"]] == [("atradiff", None), ("agent", None)]
    write_results(tmp_path, found)


def test_nothing_finished(root: Path, runner: FakeRunner, tmp_path: Path) -> None:
    runner.fails = lambda command: "repro" in command
    found = document(root, runner)
    assert (found["rows"], len(found["failed"])) == ([], 3)
    assert {path.suffix for path in write_results(tmp_path, found)} == {".json", ".md"}


# --- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def call(root: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch):
    """The program in the project folder; its cells are run by the fake."""
    from atradiff.cli import study

    (root / "params.yaml").touch()
    monkeypatch.chdir(root)

    def fake(runs: list[CellRun], jobs: int, lock: int):
        with StudyProgress(Console(), len(runs), 0) as progress:
            return execute(runs, jobs, runner, progress)

    monkeypatch.setitem(sys.modules["atradiff.cli.study"].__dict__, "_execute", fake)
    assert callable(study)

    def program(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["atradiff", "study", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0)

    return program


def test_the_command_over_two_tasks(call, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["arms", "--seeds", "1", "--task", TASK, "--task", "pointmaze-medium", "--set", "online.env_steps=1000", "--jobs", "2"]
    assert call(*arguments) == 0
    out = capsys.readouterr().out
    assert f"{TASK}, atradiff, seed 0: regret 500, holds 90 % from 1,000, 20 s" in out
    assert "6/6" in out
    found = json.loads((root / "docs" / "results" / "arms.json").read_text())
    assert found["command"] == (
        f"atradiff study arms --seeds 1 --jobs 2 --task {TASK} --task pointmaze-medium --set online.env_steps=1000"
    )
    assert found["tasks"] == [TASK, "pointmaze-medium"]
    over_all = [row for row in found["rows"] if row["task"] == "all"]
    assert [(row["label"], row["regret_share"]["value"]) for row in over_all] == [("atradiff", 0.5), ("rlpd", 0.75), ("agent", 1.0)]
    assert "## All tasks together" in (root / "docs" / "results" / "arms.md").read_text()
    assert call(*arguments) == 0
    assert "seed 0: regret" not in capsys.readouterr().out, "all was done"


def test_a_failure_is_named_with_its_log(call, root: Path, runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    runner.fails = lambda command: "--arm agent" in command
    assert call("arms", "--seeds", "1", "--task", TASK, "--set", "online.env_steps=1000", "--out", "elsewhere") == 1
    out = capsys.readouterr().out
    assert f"failed: {TASK}, agent, seed 0: it ended with exit code 3, see {root}/runs/studies/arms/" in out
    assert f"arms-{TASK}-agent-seed0.log" in out
    assert (root / "elsewhere" / "arms.json").is_file()


def test_the_list_and_a_wrong_name(call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in STUDIES)
    assert call("armz") == 1
    assert "did you mean arms" in capsys.readouterr().err
