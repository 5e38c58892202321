"""The online commands as a user meets them; one run goes through a real Prefect server of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from atradiff.flows.run_folder import RunFolder
from atradiff.flows.run_lock import RunLock
from atradiff.project.layout import Layout
from command_line import call
from projects import online_params, write_params


@pytest.fixture
def inside(online_project: Layout, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(online_project.root)
    return online_project.root


@pytest.fixture(scope="module")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect") / "home"


SLOW_PAGES = """
import time
from atradiff.cli import main
from atradiff.flows.artifacts import Artifacts
show = Artifacts.show
Artifacts.show = lambda self, artifact: (time.sleep(0.5), show(self, artifact))
main()
"""
"""The program, with pages that take so long to be sent that most still wait when all is done."""


def start(root: Path, prefect_home: Path, *arguments: str, text: str | None = None) -> subprocess.Popen[str]:
    """The program, or the text of another, in a process of its own, with a fresh Prefect and no server to be found."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(prefect_home), "PREFECT_SERVER_API_PORT": "9", "COLUMNS": "120"}
    command = [str(Path(sys.executable).parent / "atradiff")] if text is None else [sys.executable, "-c", text]
    return subprocess.Popen([*command, *arguments], cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def program(root: Path, prefect_home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, waited for."""
    process = start(root, prefect_home, *arguments)
    out, err = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture(scope="module")
def run(online_project: Layout, prefect_home: Path) -> RunFolder:
    """A run by the command, in runs/tiny-atradiff-seed3."""
    done = program(online_project.root, prefect_home, "online", "run", "--seed", "3", "--set", "replay.n_step=3", "--json")
    print(done.stderr)  # to be read where a test of this run fails: what is missing at the server, the run has told why
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "60 env steps: success" in done.stderr
    assert "gradient steps" in done.stderr
    folder = RunFolder.open(online_project.root / "runs" / "tiny-atradiff-seed3")
    told = json.loads(done.stdout)
    assert (told["run"], told["env_steps"], told["report"]) == (folder.name, 60, str(folder.report))
    assert folder.params().replay.n_step == 3
    return folder


def test_the_flow_is_to_be_seen_in_prefect(run: RunFolder, prefect_home: Path) -> None:
    with sqlite3.connect(prefect_home / "prefect.db") as database:
        tasks = {name for (name,) in database.execute("select name from task_run where state_name = 'Completed'")}
        ((evaluations,),) = database.execute("select data from artifact where key = 'tiny-atradiff-seed3-evaluations'")
        flows = database.execute("select name, state_name, tags from flow_run where name like '%-seed3'").fetchall()
        artifacts = sorted(database.execute("select key, type from artifact where key like '%-seed3-%'"))
    assert [(name, state, sorted(json.loads(tags))) for name, state, tags in flows] == [
        ("tiny-atradiff-seed3", "Completed", ["atradiff", "seed-3", "tiny"])
    ]
    assert {"warm-start to 0", "collect-and-update to 20", "adapt to 40", "evaluate to 60", "checkpoint to 60"} <= tasks
    assert [row["env steps"] for row in json.loads(json.loads(evaluations))] == ["0", "20", "40", "60"]
    name = "tiny-atradiff-seed3"
    assert artifacts == [  # once each, for all of the evaluations
        (f"{name}-distances", "markdown"),
        (f"{name}-evaluations", "table"),
        (f"{name}-imagined", "markdown"),
        (f"{name}-learning-curve", "markdown"),
        (f"{name}-lengths", "markdown"),
        (f"{name}-progress", "progress"),
        (f"{name}-sources", "markdown"),
        (f"{name}-symptoms", "table"),
        (f"{name}-times", "markdown"),
    ]


def test_pages_that_still_wait_when_all_is_done_are_sent_before_the_flow_ends(online_project: Layout, prefect_home: Path) -> None:
    arguments = ("online", "run", "--arm", "agent", "--env-steps", "20", "--run-dir", "slow-pages")
    process = start(online_project.root, prefect_home, *arguments, text=SLOW_PAGES)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    with sqlite3.connect(prefect_home / "prefect.db") as database:
        shown = {key for (key,) in database.execute("select key from artifact where key like 'slow-pages-%'")}
    assert {f"slow-pages-{name}" for name in ("evaluations", "learning-curve", "progress", "times")} <= shown


def test_the_run_is_listed_shown_and_compared(
    run: RunFolder, inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(run.path, inside / "runs" / "demo" / "one", dirs_exist_ok=True)
    assert call(monkeypatch, "online", "list", "--json") == 0
    assert {run.name, "demo/one"} <= {row["run"] for row in json.loads(capsys.readouterr().out)}
    assert call(monkeypatch, "online", "show", "demo/one", "--json") == 0
    assert json.loads(capsys.readouterr().out)["summary"]["run"] == "demo/one"
    assert call(monkeypatch, "online", "show", run.name, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["metrics"] == run.metrics()
    assert shown["summary"]["env_steps"] == 60
    assert call(monkeypatch, "online", "show", str(run.path)) == 0
    assert "gradient steps" in capsys.readouterr().out
    assert call(monkeypatch, "online", "compare", run.name, str(run.path), "--json", "--out", "both.png") == 0
    assert [row["seed"] for row in json.loads(capsys.readouterr().out)] == [3, 3]
    assert (inside / "both.png").read_bytes().startswith(b"\x89PNG")
    written = (copied / "params.yaml").read_text()
    (copied / "params.yaml").write_text(written.replace("id: PointMaze_UMaze-v3", "id: elsewhere:Maze-v0").replace("agent:\n", "agent:\n  gone: 1\n"))
    assert call(monkeypatch, "online", "compare", run.name, "demo/one", "--out", "other.png") == 0  # nothing of them runs, and they may be older


def test_an_offline_run_is_a_flow_too(run: RunFolder, online_project: Layout, prefect_home: Path) -> None:
    del run  # which has made the server's database
    settings = ("--set", "offline.evaluate_every=4", "--synthetic-ratio", "0.3", "--gradient-steps", "8")
    done = program(online_project.root, prefect_home, "offline", "run", "--seed", "4", *settings, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 gradient steps: success" in done.stderr
    assert "online run --init-from tiny-iql-seed4" in done.stderr
    told = json.loads(done.stdout)
    assert (told["run"], told["arm"], told["gradient_steps"]) == ("offline/tiny-iql-seed4", "offline iql", 8)
    with sqlite3.connect(prefect_home / "prefect.db") as database:
        flow = database.execute("select flow_run.id, state_name, tags from flow_run where name = 'tiny-iql-seed4'").fetchall()
        tasks = {name for (name,) in database.execute("select name from task_run where flow_run_id = ?", (flow[0][0],))}
    assert [(state, sorted(json.loads(tags))) for _, state, tags in flow] == [("Completed", ["offline", "seed-4", "tiny"])]
    assert tasks == {"imagine to 0", "checkpoint to 0", *(f"{kind} to {steps}" for kind in ("learn", "evaluate", "checkpoint") for steps in (4, 8))}


def test_a_dry_run_tells_the_settings_and_the_plan_and_starts_nothing(
    inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(inside.glob("runs/*"))
    arguments = ("online", "run", "--arm", "rlpd", "--seed", "9", "--env-steps", "50", "--set", "agent.tau=0.25", "--dry-run")
    assert call(monkeypatch, *arguments) == 0
    out = capsys.readouterr().out
    assert "tau: 0.25" in out
    assert "offline_ratio: 0.5" in out  # as the arm has it
    assert ["collect", "and", "update", "3", "20", "50"] in [line.split() for line in out.splitlines()]
    assert "tiny-rlpd-seed9; nothing was started" in out
    assert call(monkeypatch, *arguments, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["params"]["agent"]["tau"] == 0.25
    assert [(phase["phase"], phase["env_steps"]) for phase in told["plan"]][:3] == [("warm_start", 0), ("evaluate", 0), ("checkpoint", 0)]
    assert sorted(inside.glob("runs/*")) == before


def test_a_dry_run_that_resumes_goes_on_from_the_last_checkpoint(
    run: RunFolder, inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "online", "run", "--seed", "3", "--resume", "--env-steps", "80", "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(phase["phase"], phase["env_steps"]) for phase in told["plan"]] == [
        ("collect_and_update", 80), ("adapt", 80), ("evaluate", 80), ("checkpoint", 80)
    ]  # fmt: skip
    assert (told["params"]["online"]["env_steps"], told["params"]["replay"]["n_step"]) == (80, 3)
    assert run.params().online.env_steps == 60


def test_a_dry_run_refuses_to_resume_what_a_run_would_refuse(
    run: RunFolder, inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resume = ("online", "run", "--resume", "--dry-run", "--run-dir", str(run.path))
    assert call(monkeypatch, *resume) == 1
    assert "has done its 60 env steps" in capsys.readouterr().err
    lock = RunLock(run.path)
    assert call(monkeypatch, *resume, "--env-steps", "80") == 1
    assert f"is being carried out by process {os.getpid()}" in capsys.readouterr().err
    lock.release()


def test_ctrl_c_ends_a_run_with_how_it_goes_on_and_no_error(run: RunFolder, prefect_home: Path) -> None:
    path = run.path.parent / "cut"
    process = start(run.path.parent.parent, prefect_home, "online", "run", "--arm", "agent", "--env-steps", "1000000", "--run-dir", str(path))
    while process.poll() is None and not ((path / "metrics.jsonl").is_file() and RunFolder(path).metrics()):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, out + err
    assert f"`atradiff online run --resume --run-dir {path}` goes on" in err
    assert "ERROR" not in out + err
    with sqlite3.connect(prefect_home / "prefect.db") as database:
        assert database.execute("select state_name from flow_run where name = 'cut'").fetchall() == [("Cancelled",)]
    shutil.rmtree(path)


def test_imagine_draws_a_picture(inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "imagine", "--count", "3", "--out", "three.svg") == 0
    assert "3 imagined trajectories" in capsys.readouterr().out
    assert (inside / "three.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--run-dir", "."], " exists: go on with it by --resume, or choose another with --run-dir"),
        (["run", "--seed", "77", "--resume"], "no run of tiny, arm atradiff, seed 77"),
        (["run", "--resume", "--run-dir", "nowhere"], "nowhere is no run folder"),
        (["run", "--resume", "--set", "agent.tau=1"], "--set and --resume exclude each other"),
        (["run", "--resume", "--algorithm", "redq"], "--algorithm and --resume exclude each other"),
        (["run", "--set", "denoiser.horizons=[8, 12]"], "denoiser cannot be set for one run, as the offline stages read it"),
        (["run", "--set", "task.name=other"], "task.name"),
        (["run", "--arm", "rlpd", "--set", "task.dataset.held_out_share=0.5"], "task.dataset cannot be set for one run"),
        (["run", "--set", "replay.sinthetic_ratio=0"], "did you mean replay.synthetic_ratio?"),
        (["run", "--arm", "agent", "--track", "wandb"], "install it with `pip install -c constraints.txt -e '.[wandb]'`"),
        (["run", "--arm", "agent", "--track", "wandb", "--dry-run"], "--track wandb needs the extra [wandb]"),
        (["run", "--arm", "agent", "--dry-run", "--set", "task.environment.id=Nowhere-v0"], "task.environment 'Nowhere-v0' cannot be made"),
        (
            ["run", "--arm", "agent", "--dry-run", "--set", "task.environment.id=CartPole-v1", "--set", "task.environment.kwargs={}"],
            "only one-dimensional continuous (Box) actions",
        ),
        (["run", "--dry-run", "--set", "replay.sampling=split", "--set", "replay.offline_ratio=0.9"], "add up to more than 1: lower one of them"),
        (["run", "--dry-run", "--algorithm", "pex"], "pex goes on from a policy learned offline"),
        (["show", "nowhere"], "is no run folder"),
        (["compare", "nowhere"], "is no run folder"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_starts_nothing(
    inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    before = sorted(inside.glob("runs/*"))
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert call(monkeypatch, "online", *arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1
    assert sorted(inside.glob("runs/*")) == before


def test_without_the_offline_stages_the_run_says_which_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, online_params())
    assert call(monkeypatch, "online", "run") == 1
    err = capsys.readouterr().err
    assert "collect, convert, train_denoiser@8, train_denoiser@16, train_length_estimator missing" in err
    assert "run `dvc repro`" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--video", "film.gif"), "--video film.gif must end in .mp4"),
        (("--video", "film.mp4"), "--video needs the extra [video]"),
    ],
)
def test_a_film_that_cannot_be_made_is_refused(
    inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert call(monkeypatch, "imagine", *arguments) == 1
    assert told in capsys.readouterr().err
    assert not (inside / arguments[1]).exists()


def test_a_picture_of_an_unknown_kind_is_refused(inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "imagine", "--out", "picture.gif") == 1
    assert "must end in .png or .svg" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_named(inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert call(monkeypatch, "online", "run", "--arm", "agent", "--run-dir", "unreached") == 1
    assert "no Prefect server answers at PREFECT_API_URL http://127.0.0.1:9/api" in capsys.readouterr().err
    assert not (inside / "unreached").exists()


class Overwhelmed(BaseHTTPRequestHandler):
    """A server that is there, and has too much to do for anything else."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 503)
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def test_a_server_that_has_too_much_to_do_is_named(inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with HTTPServer(("127.0.0.1", 0), Overwhelmed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
            assert call(monkeypatch, "online", "run", "--arm", "agent", "--run-dir", "untaken") == 1
        server.shutdown()
    told = capsys.readouterr().err
    assert "Prefect's server does not take the run (Server error '503 Service Unavailable'" in told
    assert "go on with --resume" in told
    assert (inside / "untaken" / "run.json").exists()
