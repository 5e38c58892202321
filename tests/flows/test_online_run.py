"""Whole runs without Prefect: repeated, resumed, and the equality that makes a comparison of arms mean something."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from atradiff.errors import Stopped, UserError
from atradiff.flows.assemble import Arm
from atradiff.flows.online_run import OnlineRun
from atradiff.flows.run_folder import Metrics, RunFolder
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from atradiff.reporting.report import CAPTIONS
from kills import kill_runs
from projects import online_params
from same_runs import differences, without_times
from toys import REQUIRED_METRICS


def carry_out(run: OnlineRun, phases: int | None = None) -> RunFolder:
    for phase in run.phases[:phases]:
        run.do(phase, lambda env_steps: None)
    return run.folder


def ran(params: Params, arm: Arm, path: Path, layout: Layout, seed: int = 0) -> list[Metrics]:
    """The metrics of a whole run, times aside."""
    return without_times(carry_out(OnlineRun.begin(params, arm, seed, path, layout, "cpu")))


def test_the_same_seed_gives_the_same_metrics_and_another_does_not(online_project: Layout, tmp_path: Path) -> None:
    first, again, other = (ran(online_params(), "atradiff", tmp_path / str(i), online_project, seed) for i, seed in enumerate((0, 0, 1)))
    assert [row["env_steps"] for row in first] == [0, 20, 40, 60]
    assert first[-1]["synthesis/trajectories"] > 0
    assert first == again
    assert first != other


def test_no_synthetic_share_equals_the_plain_agent(online_project: Layout, tmp_path: Path) -> None:
    params = online_params()
    none = replace(params, replay=replace(params.replay, synthetic_ratio=0.0))
    assert ran(none, "atradiff", tmp_path / "none", online_project) == ran(params, "agent", tmp_path / "agent", online_project)
    assert (tmp_path / "none" / "params.yaml").read_text() == (tmp_path / "agent" / "params.yaml").read_text()


@pytest.mark.parametrize("arm", ["atradiff", "rlpd"])
def test_resumed_equals_uninterrupted(online_project: Layout, tmp_path: Path, arm: Arm) -> None:
    whole = carry_out(OnlineRun.begin(online_params(), arm, 0, tmp_path / "whole", online_project, "cpu"))
    run = OnlineRun.begin(online_params(), arm, 0, tmp_path / "cut", online_project, "cpu")
    checkpoints = [i for i, phase in enumerate(run.phases) if phase.kind == "checkpoint"]
    carry_out(run, checkpoints[2])  # the evaluation at 40 is written, its checkpoint is not
    assert [row["env_steps"] for row in run.folder.metrics()] == [0, 20, 40]
    resumed = resume(run, online_project)
    assert [row["env_steps"] for row in resumed.folder.metrics()] == [0, 20]
    assert differences(carry_out(resumed), whole) == []


def resume(run: OnlineRun, layout: Layout, env_steps: int | None = None) -> OnlineRun:
    """In new objects, as another process would."""
    run.lock.release()
    return OnlineRun.resume(run.folder.path, env_steps, layout, "cpu", pytest.fail)


def test_a_run_goes_on_from_wherever_a_signal_stopped_it(online_project: Layout, tmp_path: Path) -> None:
    """The k-th time that the run asks whether it should stop it hears so, for many k: in the warm start, between any two env steps, after any phase."""
    whole = carry_out(OnlineRun.begin(online_params(), "atradiff", 0, tmp_path / "whole", online_project, "cpu"))
    run = OnlineRun.begin(online_params(), "atradiff", 0, tmp_path / "cut", online_project, "cpu")
    stops: list[str] = []
    for patience in (1, 4, 1, 2, 1, 9, 5, 13, 1, 8, 2, 1):
        asked = iter([None] * patience)
        try:
            for phase in run.phases:
                run.do(phase, lambda env_steps: None, lambda asked=asked: next(asked, signal.SIGTERM))
        except Stopped as stop:
            stops.append(f"{stop.exit_code} {stop}")
            run = resume(run, online_project)
    carry_out(run)
    assert any("stopped in its warm start: " in text for text in stops)
    assert any(f"at env step 20 with everything kept: `atradiff online run --resume --run-dir {run.folder.path}` goes on" in text for text in stops)
    assert [text[:4] for text in stops] == ["143 "] * 12
    assert differences(run.folder, whole) == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_runs_that_are_killed_lose_nothing(online_project: Layout, tmp_path: Path) -> None:
    """The short form of `make test-faults`."""

    def carry_out_or_go_on(path: Path) -> None:
        if path.exists():
            run = OnlineRun.resume(path, None, online_project, "cpu", pytest.fail)
        else:
            run = OnlineRun.begin(online_params(), "atradiff", 0, path, online_project, "cpu")
        carry_out(run)

    tally = kill_runs(carry_out_or_go_on, tmp_path, kills=3, seed=0)
    assert sum(tally.signals.values()) >= 3
    assert tally.lost == []


def test_a_run_without_a_checkpoint_begins_again(online_project: Layout, tmp_path: Path) -> None:
    run = OnlineRun.begin(online_params(), "agent", 0, tmp_path / "run", online_project, "cpu")
    carry_out(run, 2)
    assert len(run.folder.metrics()) == 1
    resumed = resume(run, online_project)
    assert resumed.folder.metrics() == []
    assert resumed.phases == run.phases


def test_two_do_not_carry_out_one_run(online_project: Layout, tmp_path: Path) -> None:
    run = OnlineRun.begin(online_params(), "agent", 0, tmp_path / "run", online_project, "cpu")
    with pytest.raises(UserError, match=f"is being carried out by process {os.getpid()} on "):
        OnlineRun.resume(run.folder.path, None, online_project, "cpu", pytest.fail)
    resume(run, online_project)


def test_other_data_than_the_run_began_with_is_refused(online_project: Layout, tmp_path: Path) -> None:
    run = OnlineRun.begin(online_params(), "rlpd", 0, tmp_path / "run", online_project, "cpu")
    about = json.loads((run.folder.path / "run.json").read_text())
    (run.folder.path / "run.json").write_text(json.dumps({**about, "data_sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"the offline data .* has changed since the run began \(fingerprint 000000000000, now "):
        resume(run, online_project)


def test_a_finished_run_goes_on_with_a_larger_budget_only(online_project: Layout, tmp_path: Path) -> None:
    run = OnlineRun.begin(online_params(), "agent", 0, tmp_path / "run", online_project, "cpu")
    carry_out(run)
    unreported = resume(run, online_project)  # killed before its report was written
    assert unreported.phases == []
    assert unreported.finish().exists()
    unreported.lock.release()
    with pytest.raises(UserError, match="has done its 60 env steps: give --env-steps a larger number"):
        resume(run, online_project)
    folder = carry_out(resume(run, online_project, 80))
    assert [row["env_steps"] for row in folder.metrics()] == [0, 20, 40, 60, 80]
    assert folder.params().online.env_steps == 80


def test_the_report_after_a_resume_shows_the_same(online_project: Layout, tmp_path: Path) -> None:
    run = OnlineRun.begin(online_params(), "atradiff", 0, tmp_path / "run", online_project, "cpu")
    carry_out(run)
    before = run.finish().read_text()
    for path in (run.folder.report, run.folder.imagined_picture):
        path.unlink()
    assert resume(run, online_project).finish().read_text() == before


def test_a_run_folder_holds_what_it_should(online_project: Layout, tmp_path: Path) -> None:
    run = OnlineRun.begin(online_params(), "atradiff", 0, tmp_path / "run", online_project, "cpu")
    folder = carry_out(run)
    assert all(row.keys() >= REQUIRED_METRICS for row in folder.metrics())
    kept = [path.name for path in run.checkpoints.folders()]
    assert kept[-2:] == ["step-000000040", "step-000000060"]
    assert run.checkpoints.best() in run.checkpoints.folders()
    RunFolder.create(tmp_path / "beside", online_params(), "rlpd", 0, online_project).append_metrics(folder.metrics()[0])
    html = run.finish().read_text()
    assert [name for name in CAPTIONS if f'<section id="{name}"><img src="data:image/svg+xml;base64,' in html] == list(CAPTIONS)
    assert "http://" not in html
    assert "https://" not in html
    assert "What the pruner did" in html
    assert "The last adaptation" in html
    drawn = folder.imagined_picture.stat().st_mtime_ns
    assert run.finish().read_text() == html
    assert folder.imagined_picture.stat().st_mtime_ns == drawn  # as it shows the last evaluation already
    assert {path.name for path in folder.path.iterdir()} == {
        "run.json",
        "lock",
        "params.yaml",
        "metrics.jsonl",
        "arms.svg",
        "checkpoints",
        "report.html",
        "learning-curve.svg",
        "imagined.svg",
        "distances.svg",
        "sources.svg",
        "lengths.svg",
        "times.svg",
    }


def test_a_profile_tells_where_the_time_went_and_changes_nothing(online_project: Layout, tmp_path: Path) -> None:
    plain = ran(online_params(), "agent", tmp_path / "plain", online_project)
    run = OnlineRun.begin(online_params(), "agent", 0, tmp_path / "run", online_project, "cpu").profiled()
    folder = carry_out(run)
    assert without_times(folder) == plain
    assert run.profile is not None
    told = run.profile.write(folder)
    assert folder.profile.read_text() == told
    assert all(text in told for text in ("collect and update", "evaluate", "pictures, pages", "aten::baddbmm", "Self CPU time total"))
    events = json.loads(folder.trace.read_text())["traceEvents"]
    steps = [event for event in events if event.get("name") == "env"]
    assert 0 < len(steps) <= 60
    assert {event["name"] for event in events} >= {"update", "aten::bmm"}
    for name, seconds in run.trainer.clock.seconds.items():
        assert sum(parts[name] for parts in run.profile.seconds.values()) == pytest.approx(seconds)
