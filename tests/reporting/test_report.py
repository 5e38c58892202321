from __future__ import annotations

import io
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console

from atradiff.online.adaptation import Adapted
from atradiff.online.symptoms import Symptom
from atradiff.reporting.progress import RunProgress, Status
from atradiff.reporting.report import inline_image, pruned_rows, write_report
from atradiff.reporting.summary import number, summarize, tell_apart, time_parts
from atradiff.reporting.tables import datasets_table, evaluations_table, profile_table, runs_table
from atradiff.synthesis.prune import Pruned
from atradiff.synthesis.synthesizer import Imagined
from atradiff.trajectory import Trajectory

ABOUT = {
    "task": "maze",
    "arm": "atradiff",
    "seed": 0,
    "versions": {"python": "3"},
    "dataset": "local/x-v0",
    "data_sha256": "ab" * 32,
    "git_commit": None,
}


def row(env_steps: int, success: float | None, seconds: float = 10.0) -> dict[str, Any]:
    timers = {f"time/{name}_seconds": 1.0 for name in ("env", "update", "synthesis", "adapt", "evaluate")}
    counts = {"gradient_steps": 5, "synthesis/trajectories": 2, "synthesis/mean_length": 7.5, "replay/synthetic_share": 0.5}
    evaluated = {"eval/success_rate": success, "eval/return": 1.0, "eval/length": 30.0}
    return {"env_steps": env_steps, **evaluated, **counts, "time/seconds": seconds, **timers}


def imagined() -> Imagined:
    trajectory = Trajectory(np.zeros((5, 2), np.float32), np.zeros((4, 1), np.float32), np.zeros(4, np.float32), np.zeros(0, np.float32), True, False)
    return Imagined(trajectory, (16,), 6.0, Pruned(np.arange(5), cut=8, loops=2, trimmed=1), 16, np.zeros((7, 2), np.float32))


def test_a_summary_finds_the_first_good_evaluation_and_the_area() -> None:
    summary = summarize("run", ABOUT, [row(0, 0.0), row(100, 0.5), row(300, 0.9), row(400, 0.8)])
    assert summary["first_solved"] == 300
    assert summary["final_success"] == 0.8
    assert summary["mean_success"] == pytest.approx((25 + 140 + 85) / 400)
    assert summary["synthesis_share"] == pytest.approx(0.1)


def test_runs_of_one_arm_are_one_curve_only_where_their_settings_are_the_same() -> None:
    plain = {"agent.algorithm": "sac", "replay.n_step": 10, "agent.tau": 0.01, "init_from": None}
    arms = ["atradiff", "atradiff", "rlpd", "rlpd"]
    assert tell_apart(arms, [plain] * 4) == arms
    other = plain | {"agent.algorithm": "td3"}
    assert tell_apart(arms, [plain, other, other, other]) == ["atradiff, agent.algorithm=sac", "atradiff, agent.algorithm=td3", "rlpd", "rlpd"]
    much = {"agent.algorithm": "td3", "replay.n_step": 1, "agent.tau": 0.01, "init_from": "offline/td3bc"}
    assert tell_apart(["atradiff"] * 2, [plain, much])[1] == "atradiff, agent.algorithm=td3, replay.n_step=1, and 1 more"


def test_a_summary_invents_nothing() -> None:
    unknown = summarize("run", ABOUT, [])
    assert (unknown["first_solved"], unknown["mean_success"], unknown["final_success"], unknown["seconds"]) == (None,) * 4
    without_success = summarize("run", ABOUT, [row(0, None), row(100, None)])
    assert (without_success["first_solved"], without_success["mean_success"], without_success["final_return"]) == (None, None, 1.0)


def test_tables_fit_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(0, None), row(1_000_000, 1.0, 100_000.0)]
    console = Console(width=80)
    console.print(evaluations_table(rows))
    console.print(runs_table([summarize("pointmaze-medium-atradiff-seed0-12", ABOUT, rows), summarize("empty", ABOUT, [])], 80))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("1,000,000" in line and "100%" in line and "100,000.0" in line for line in lines)
    assert any("pointmaze-medium-atradiff-seed0-12 " in line and "1,000,000" in line for line in lines)


@pytest.mark.parametrize("width", [60, 46])
def test_a_narrow_terminal_cuts_nothing_off(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=width).print(evaluations_table([row(0, 1.0, 85.7), row(400, 1.0, 107.8)]))
    out = capsys.readouterr().out
    assert "…" not in out
    assert any("400" in line and "100%" in line and "107.8" in line for line in out.splitlines())


@pytest.mark.parametrize(
    ("name", "left_out"),
    [("pointmaze-umaze-atradiff-seed0", set()), ("offline/metaworld-button-press-topdown-td3bc-seed0", {"time", "seed", "mean", "arm"})],
)
def test_a_runs_name_stays_whole_and_other_columns_give_way(name: str, left_out: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=80).print(runs_table([summarize(name, ABOUT, [row(0, 1.0), row(1_000, 1.0)])], 80))
    headings, _, cells = capsys.readouterr().out.splitlines()
    assert {heading for heading in ("run", "arm", "seed", "steps", "at 90 %", "mean", "last", "time") if heading not in headings} == left_out
    assert cells.split()[0] == name  # which is typed again


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(120, set()), (80, {"format", "episodes", "MB"}), (40, {"format", "episodes", "MB", "environment", "transitions"})],
)
def test_a_datasets_id_stays_whole(width: int, left_out: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    name = "local/pointmaze/umaze/medium-replay-v0"
    about = {"id": name, "environment": "PointMaze_UMaze-v3", "format": "hdf5", "episodes": 54, "transitions": 3_000, "megabytes": 1.4}
    Console(width=width).print(datasets_table([about], width))
    headings, _, cells = capsys.readouterr().out.splitlines()
    assert {heading for heading in ("environment", "format", "episodes", "transitions", "MB") if heading not in headings} == left_out
    assert cells.split()[0] == name


def test_a_missing_number_is_a_dash() -> None:
    assert (number(None), number(1234.5), number(0.25, "{:.0%}")) == ("-", "1,234", "25%")


def test_what_rounds_to_zero_has_no_sign() -> None:
    shares = (-0.0004, 0.0004, 0.0, -0.0006, 0.0006, float("-inf"))
    assert [number(share, "{:+.1%}") for share in shares] == ["0.0%", "0.0%", "0.0%", "-0.1%", "+0.1%", "-inf%"]
    assert number(-0.001, "{:.2f}") == "0.00"


def test_parts_of_a_bar_are_all_of_it() -> None:
    parts = pruned_rows([imagined(), imagined()])
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    assert len({part.colour for part in parts}) == len(parts)
    assert [part.value for part in pruned_rows([imagined()])] == ["5 rows", "8 rows", "2 rows", "1 rows"]
    assert time_parts(row(0, 1.0))["the rest"] == 5.0
    assert sum(time_parts(row(0, 1.0)).values()) == pytest.approx(10.0)
    assert pruned_rows([]) == []


def test_a_profile_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=80).print(profile_table({"warm start": {"update": 1.5, "rest": 0.5}, "pictures": {"rest": 0.25}}))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["seconds", "update", "rest", "all"]
    assert lines[2:] == [["warm", "start", "1.5", "0.5", "2.0"], ["pictures", "-", "0.2", "0.2"], ["all", "1.5", "0.8", "2.2"]]


def test_a_report_is_whole_and_escapes_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "times.svg").write_text("<svg/>")
    write_report(
        tmp_path / "report.html",
        name="a<b>",
        about=ABOUT,
        params_yaml="x: <script>",
        rows=[row(0, 0.0), row(100, 1.0)],
        pictures=[tmp_path / "times.svg"],
        imagined=[imagined()],
        adaptations=[Adapted("denoiser 16", 0.0, 0.1, True), Adapted("length estimator", 0.2, 0.1, False)],
        symptoms=[Symptom("scattered lengths", "lengths & such", "train it longer")],
    )
    html = (tmp_path / "report.html").read_text()
    assert "<h1>a&lt;b&gt;</h1>" in html
    assert "<script" not in html
    assert inline_image(tmp_path / "times.svg") in html
    assert "rolled back" in html
    assert "-50.0%" in html
    assert "lengths &amp; such" in html


def test_a_report_of_a_run_that_barely_began(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", name="a", about=ABOUT, params_yaml="", rows=[], pictures=[], imagined=[], adaptations=[], symptoms=[])
    assert "never" not in (tmp_path / "r.html").read_text()


STATUS = Status(gradient_steps=12_000, imagined=345, share=0.798, share_asked=0.8, adapts_in=250)


def test_progress_leaves_a_line_for_each_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress(Console(width=100), steps=200, done=0, status=lambda: STATUS) as progress:
        progress.phase("evaluate")
        progress.step(100)
        progress.evaluated(row(100, 0.5))
        progress.evaluated(row(200, None))
        for _ in range(2):
            progress.warn("scattered lengths", "train it longer")
    out = capsys.readouterr().out
    assert "100 env steps: success 50%, 10 s" in out
    assert "200 env steps: return 1.00, 10 s" in out
    assert out.count("scattered lengths: train it longer") == 1
    assert len(out.splitlines()) == 3  # and no bar, as this is a log


@pytest.mark.parametrize("width", [30, 60, 120])
def test_the_display_tells_all_on_a_terminal_of_any_width_and_log_lines_do_not_tear_it(width: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    handler = PrefectConsoleHandler()
    handler.console = console
    with RunProgress(console, steps=20_000, done=10_000, status=lambda: STATUS) as progress:
        progress.phase("collect and update")
        progress.evaluated(row(100, 0.5))
        handler.emit(logging.LogRecord("prefect", logging.WARNING, "", 0, "the server is slow", None, None))
        progress.step(15_000)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue()))
    assert max(map(len, lines)) <= width
    assert "the server is slow" in [line.strip() for line in lines]
    shown = " ".join(" ".join(lines).split())
    assert all(word in shown for word in ("collect", "success 50%", "12,000 updates", "345 imagined", "share 79.8% of 80%", "adapts in 250"))
    assert ("15000/20000" in shown.replace(",", "")) == (width == 120)
