"""`atradiff offline run`, and `online run --init-from` that goes on from it, as a user meets them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from atradiff.errors import Stopped, UserError
from atradiff.flows.assemble import take_over_from
from atradiff.flows.offline_run import OfflineRun
from atradiff.flows.online_run import OnlineRun
from atradiff.flows.run_folder import RunFolder, find_offline_run, settings_carried_over
from atradiff.params.load import load_params
from atradiff.project.layout import Layout
from atradiff.reporting.report import CAPTIONS
from command_line import call
from same_runs import differences

SHORT = ["offline.gradient_steps=8", "offline.evaluate_every=4", "offline.synthetic_ratio=0.34"]


@pytest.fixture
def inside(online_project: Layout, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(online_project.root)
    return online_project.root


@pytest.fixture
def learned(inside: Path, online_project: Layout) -> RunFolder:
    """An IQL agent from a third imagined data, in runs/offline/tiny-iql-seed5."""
    path = inside / "runs" / "offline" / "tiny-iql-seed5"
    return RunFolder.open(path) if path.exists() else finished(begin(online_project, path, 5))


def begin(layout: Layout, path: Path, seed: int = 0, agent: str = "iql", settings: list[str] = SHORT) -> OfflineRun:
    return OfflineRun.begin(load_params(layout.params, settings, agent), seed, path, layout, "cpu")


def carry_out(run: OfflineRun, phases: int | None = None) -> RunFolder:
    """Some phases, or all but the report, which takes longer than such a run, whereupon the run is let go."""
    for phase in run.phases[:phases]:
        run.do(phase, lambda steps: None)
    run.lock.release()
    return run.folder


def finished(run: OfflineRun) -> RunFolder:
    """All, and the report."""
    carry_out(run)
    run.finish()
    return run.folder


def resumed(folder: RunFolder, layout: Layout, steps: int | None = None) -> OfflineRun:
    return OfflineRun.resume(folder.path, steps, layout, "cpu", pytest.fail)


def test_what_nan_arose_in_is_kept(online_project: Layout, tmp_path: Path) -> None:
    run = begin(online_project, tmp_path / "run")
    learn = next(i for i, phase in enumerate(run.phases) if phase.kind == "learn")
    for phase in run.phases[:learn]:
        run.do(phase, lambda steps: None)
    with torch.no_grad():
        next(run.trainer.agent.critic.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"NaN or infinity in .* at gradient step \d+; what it arose in is in .*/bad-numbers-\d+.pt: lower"):
        run.do(run.phases[learn], lambda steps: None)
    run.lock.release()
    (saved,) = run.folder.path.glob("bad-numbers-*.pt")
    content = torch.load(saved, weights_only=True)
    assert {"observation", "reward", "gradient_steps"} <= set(content)
    assert not all(part.isfinite().all() for part in content.values() if isinstance(part, torch.Tensor))


def test_an_offline_run_leaves_its_settings_metrics_and_agent(learned: RunFolder, inside: Path) -> None:
    rows = learned.metrics()
    assert [row["gradient_steps"] for row in rows] == [4, 8]
    assert rows[-1]["replay/synthetic_share"] == pytest.approx(0.34, abs=0.02)
    assert learned.params().agent.algorithm == "iql"
    assert (learned.about()["arm"], learned.about()["agent"]) == ("offline", "iql")
    html = learned.report.read_text()
    assert [name for name in CAPTIONS if f'<section id="{name}">' in html] == ["learning-curve", "imagined", "lengths", "times"]
    assert "<b>8</b><span class=\"muted\">gradient steps</span>" in html
    assert "env steps</th>" not in html
    assert find_offline_run(inside, learned.name) == learned
    assert find_offline_run(inside, str(learned.path)).path == learned.path


def test_without_imagination_no_model_is_asked(online_project: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atradiff.flows.offline_run.load_synthesizer", pytest.fail)
    run = begin(online_project, tmp_path / "plain", agent="td3bc", settings=[*SHORT, "offline.synthetic_ratio=0"])
    assert run.phases[0].kind == "learn"
    folder = carry_out(run)
    assert folder.metrics()[-1]["replay/synthetic"] == 0
    assert resumed(folder, online_project, 12).phases[0].steps == 12


def test_a_run_goes_on_from_wherever_it_was_stopped_or_killed(online_project: Layout, tmp_path: Path) -> None:
    """By a signal that is heard the k-th time that the run asks: as it imagines, between two updates, after any phase. By a kill after any phase."""
    whole = carry_out(begin(online_project, tmp_path / "whole"))
    run, stops = begin(online_project, tmp_path / "cut"), list[str]()
    imagines = whole.metrics()[-1]["synthesis/trajectories"]
    for patience in (2, imagines + 2, 1, 2, 1, 2):
        asked = iter([None] * patience)
        try:
            for phase in run.phases:
                run.do(phase, lambda steps: None, lambda asked=asked: next(asked, signal.SIGTERM))
        except Stopped as stop:
            stops.append(str(stop))
            run.lock.release()
            run = resumed(run.folder, online_project)
    assert stops[0].startswith("the run was stopped while it imagined: `atradiff offline run --resume --run-dir ")
    assert stops[1].startswith("the run was stopped at gradient step 1 with everything kept")
    assert len(stops) == 6
    assert differences(carry_out(run), whole) == []
    for phases in (1, 3, 4, 7):
        killed = carry_out(begin(online_project, tmp_path / f"killed-{phases}"), phases)
        assert differences(carry_out(resumed(killed, online_project)), whole) == []


def test_a_finished_run_goes_on_with_a_larger_budget_only(online_project: Layout, tmp_path: Path) -> None:
    folder = finished(begin(online_project, tmp_path / "run"))
    with pytest.raises(UserError, match="has done its 8 gradient steps: give --gradient-steps a larger number to go on"):
        resumed(folder, online_project)
    longer = carry_out(resumed(folder, online_project, 16))
    at_once = carry_out(begin(online_project, tmp_path / "at-once", settings=[*SHORT, "offline.gradient_steps=16"]))
    assert differences(longer, at_once) == []
    assert [row["gradient_steps"] for row in longer.metrics()] == [4, 8, 12, 16]


def test_offline_runs_are_listed_shown_and_compared(
    learned: RunFolder, inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"offline/{learned.name}"
    for group in ("offline", "online"):
        assert call(monkeypatch, group, "list", "--json") == 0
        found = {row["run"]: row for row in json.loads(capsys.readouterr().out)}[name]
        assert (found["arm"], found["env_steps"], found["gradient_steps"]) == ("offline iql", 0, 8)
    assert call(monkeypatch, "offline", "show", name) == 0
    assert "gradient steps" in capsys.readouterr().out
    assert call(monkeypatch, "offline", "compare", name, str(learned.path), "--out", "offline.svg") == 0
    assert "offline iql" in capsys.readouterr().out
    assert (inside / "offline.svg").exists()


def test_a_dry_run_tells_the_plan_and_starts_nothing(inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "offline", "run", "--gradient-steps", "7", "--seed", "9", "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(phase["phase"], phase["gradient_steps"]) for phase in told["plan"]] == [
        ("imagine", 0), ("checkpoint", 0), ("learn", 7), ("evaluate", 7), ("checkpoint", 7)
    ]  # fmt: skip
    assert told["params"]["agent"]["algorithm"] == "iql"
    assert not Path(told["run_dir"]).exists()


def test_a_dry_run_that_resumes_tells_what_is_left(
    learned: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resume = ("offline", "run", "--resume", "--dry-run", "--run-dir", str(learned.path), "--json")
    assert call(monkeypatch, *resume, "--gradient-steps", "12") == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert [(phase["phase"], phase["gradient_steps"]) for phase in plan] == [("learn", 12), ("evaluate", 12), ("checkpoint", 12)]
    assert learned.params().offline.gradient_steps == 8
    assert call(monkeypatch, *resume) == 1
    assert "has done its 8 gradient steps" in capsys.readouterr().err


def test_an_offline_run_goes_by_the_name_that_is_listed_or_by_less(learned: RunFolder, online_project: Layout) -> None:
    for name in (learned.name, f"offline/{learned.name}", str(learned.path)):
        assert find_offline_run(online_project.root, name).path == learned.path


@pytest.mark.parametrize("algorithm", [None, "pex"])
def test_an_online_run_goes_on_from_it(learned: RunFolder, online_project: Layout, tmp_path: Path, algorithm: str | None) -> None:
    """With its settings of the agent and with no warm start, and again from its own checkpoint."""
    params = load_params(online_project.params, ["online.env_steps=20"], algorithm, settings_carried_over(learned))
    assert params.agent.algorithm == (algorithm or "iql")
    assert params.online.warm_start_gradient_steps == 0
    run = OnlineRun.begin(params, "atradiff", 0, tmp_path / "run", online_project, "cpu", learned)
    assert run.trainer.agent.gradient_steps == 8
    assert run.folder.about()["init_from"] == str(learned.path)
    run.lock.release()
    again = OnlineRun.resume(run.folder.path, None, online_project, "cpu", pytest.fail)  # stopped before its first checkpoint
    assert again.trainer.agent.gradient_steps == 8
    again.lock.release()
    for phase in run.phases:
        run.do(phase, lambda env_steps: None)
    assert run.folder.metrics()[0]["gradient_steps"] == 8
    assert run.folder.metrics()[-1]["gradient_steps"] > 8
    run.lock.release()
    resumed = OnlineRun.resume(run.folder.path, 40, online_project, "cpu", pytest.fail)
    observation = np.zeros((1, resumed.trainer.agent.spec.observation_dim), np.float32)
    assert np.array_equal(resumed.trainer.agent.act(observation, None), run.trainer.agent.act(observation, None))


def test_the_agent_that_goes_on_is_the_one_that_learned(learned: RunFolder, online_project: Layout, tmp_path: Path) -> None:
    params = load_params(online_project.params, [], None, settings_carried_over(learned))
    run = OnlineRun.begin(params, "rlpd", 0, tmp_path / "run", online_project, "cpu", learned)
    other = OnlineRun.begin(params, "rlpd", 1, tmp_path / "other", online_project, "cpu")
    observations = np.random.default_rng(0).standard_normal((5, run.trainer.agent.spec.observation_dim)).astype(np.float32)
    assert not np.array_equal(other.trainer.agent.act(observations, None), run.trainer.agent.act(observations, None))
    take_over_from(other.trainer.agent, learned)
    assert np.array_equal(other.trainer.agent.act(observations, None), run.trainer.agent.act(observations, None))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["offline", "run", "--agent", "pex"], "pex begins with a policy learned offline"),
        (["offline", "run", "--agent", "pex", "--dry-run"], "pex begins with a policy learned offline"),
        (["offline", "run", "--agent", "iqll"], "there is no algorithm 'iqll', did you mean iql"),
        (["offline", "run", "--synthetic-ratio", "1"], "offline.synthetic_ratio is 1.0, but must be a number at least 0 and below 1"),
        (["offline", "run", "--run-dir", "."], "exists: "),
        (["offline", "run", "--resume", "--seed", "77"], "no run of tiny, agent iql, seed 77"),
        (["offline", "run", "--resume", "--synthetic-ratio", "0"], "--synthetic-ratio and --resume exclude each other"),
        (["online", "run", "--resume", "--run-dir", "runs/offline/tiny-iql-seed5"], "was begun by `atradiff offline run`"),
        (["online", "run", "--init-from", "nowhere"], "nowhere is no run folder"),
        (["online", "run", "--init-from", "tiny-iql-seed5", "--set", "agent.width=8"], "was learned with agent.width 16, but this run has 8"),
        (["online", "run", "--init-from", "tiny-iql-seed5", "--algorithm", "td3"], "td3 cannot go on from"),
        (["online", "run", "--init-from", "tiny-iql-seed5", "--algorithm", "td3", "--dry-run"], "td3 cannot go on from"),
        (["online", "run", "--algorithm", "pex"], "pex goes on from a policy learned offline"),
        (["online", "run", "--resume", "--init-from", "tiny-iql-seed5"], "--init-from and --resume exclude each other"),
    ],
)
@pytest.mark.usefixtures("learned")
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(
    inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    monkeypatch.setattr("atradiff.flows.server.ApiServer.__enter__", lambda server: server)
    before = sorted(inside.glob("runs/**/run.json"))
    capsys.readouterr()
    assert call(monkeypatch, *arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert told in err
    assert sorted(inside.glob("runs/**/run.json")) == before


def test_the_algorithms_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "algorithms") == 0
    out = capsys.readouterr().out
    assert "calql" in out
    assert "Kostrikov" in out
    assert "droq" in out
