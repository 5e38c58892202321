"""What every command has in common: JSON where there is a table, exit codes, and a shell that completes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from unittest.mock import Mock

import pytest

from atradiff.cli import completion
from atradiff.numbers import NotFinite
from atradiff.params.tasks import TASKS
from command_line import call
from projects import tiny_params, write_params


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, tiny_params())
    return tmp_path


@pytest.mark.parametrize(
    ("command", "known"),
    [
        (("tasks",), "pointmaze-umaze"),
        (("algorithms",), "redq"),
        (("show-params",), "denoiser"),
        (("study", "list"), "plug-in"),
    ],
)
def test_tables_come_as_json_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], known: str
) -> None:
    assert call(monkeypatch, *command, "--json") == 0
    assert known in json.loads(capsys.readouterr().out)


def test_the_table_of_tasks_cuts_no_name_off(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call(monkeypatch, "tasks") == 0
    assert set(TASKS) <= set(capsys.readouterr().out.split())


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.split() == ["atradiff", version("atradiff")]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("tasks",), 0), (("use", "nowhere"), 1), (("train-denoiser",), 2), (("tasks", "--nothing"), 2), (("nothing",), 2)],
)
def test_an_exit_code_tells_a_refusal_from_a_wrong_command_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int
) -> None:
    assert call(monkeypatch, *arguments) == code


def test_a_place_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").mkdir()
    assert call(monkeypatch, "use", "pointmaze-umaze") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path / 'params.yaml'} cannot be used (Is a directory): ")
    assert err.count("\n") == 1


def test_numbers_that_are_none_are_told_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("atradiff.stages.evaluate_synthesis.run", Mock(side_effect=NotFinite("estimated lengths", {})))
    assert call(monkeypatch, "evaluate-synthesis") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: NaN or infinity in estimated lengths, as models give that learned too little or diverged: ")
    assert err.count("\n") == 1


def test_what_the_user_cannot_mend_keeps_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", Mock(side_effect=OSError(errno.EBADF, "Bad file descriptor")))
    with pytest.raises(OSError, match="Bad file descriptor"):
        call(monkeypatch, "use", "pointmaze-umaze")


def test_the_shell_completes_runs_settings_algorithms_and_tasks(folder: Path) -> None:
    (folder / "runs" / "tiny-agent-seed0").mkdir(parents=True)
    (folder / "runs" / "tiny-agent-seed0" / "run.json").touch()
    (folder / "runs" / "tiny-empty").mkdir()
    (folder / "runs" / "offline" / "tiny-iql-seed0").mkdir(parents=True)
    (folder / "runs" / "offline" / "tiny-iql-seed0" / "run.json").touch()
    assert completion.runs("tiny") == ["tiny-agent-seed0"]
    assert completion.runs("off") == ["offline/tiny-iql-seed0"]
    assert completion.offline_runs("") == ["tiny-iql-seed0"]
    assert completion.runs("other") == []
    assert completion.settings("agent.tau") == ["agent.tau="]
    assert "synthesis.prune.loops=" in completion.settings("")
    assert [name for name, _ in completion.algorithms("r")] == ["redq", "rlpd"]
    assert completion.tasks("walk") == [("walker2d", "two legs: walk forward")]


def test_outside_of_a_project_nothing_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (completion.runs(""), completion.settings("")) == ([], [])
    (tmp_path / "params.yaml").write_text("agent: [")
    assert completion.settings("") == []


def test_the_program_answers_the_shell() -> None:
    asked = {"_ATRADIFF_COMPLETE": "complete_bash", "COMP_WORDS": "atradiff online ru", "COMP_CWORD": "2"}
    done = subprocess.run([Path(sys.executable).parent / "atradiff"], env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["run"], done.stderr
