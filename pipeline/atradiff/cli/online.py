"""The commands around online runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from atradiff.cli import completion, runs
from atradiff.cli.offline import AlgorithmOption, SetOption, print_params, project

if TYPE_CHECKING:
    from atradiff.flows.online_run import OnlineRun
    from atradiff.params.schema import Params

app = typer.Typer(name="online", help="Online runs: start, resume, look at and compare them.", no_args_is_help=True)
runs.register(app)


class ArmChoice(StrEnum):
    """What learns; see `flows.assemble.params_of_arm`."""

    atradiff = "atradiff"
    agent = "agent"
    rlpd = "rlpd"


class TrackerChoice(StrEnum):
    """Where metrics go beside the run's own files; see `reporting.tracking`."""

    tensorboard = "tensorboard"
    wandb = "wandb"
    trackio = "trackio"


@app.command()
def run(
    arm: Annotated[
        ArmChoice, typer.Option(help="agent has no offline data; rlpd has it, but imagines nothing.")
    ] = ArmChoice.atradiff,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn at random.")] = 0,
    env_steps: Annotated[int | None, typer.Option(min=1, help="Real environment steps, in place of online.env_steps.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="The run's folder; runs/TASK-ARM-seedN where it is not given.")] = None,
    algorithm: AlgorithmOption = None,
    overrides: SetOption = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Go on from an offline run's agent, with its settings of the agent: a name in runs/offline/, or a folder.",
            autocompletion=completion.offline_runs,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint, with the run's own settings.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Tell where the time went, and record a trace of 200 env steps.")] = False,
    track: Annotated[list[TrackerChoice] | None, typer.Option(help="Send the metrics there, too; may be given several times.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, print the settings and the plan, and start nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary, or the plan, as JSON; all else goes to stderr.")] = False,
) -> None:
    """Learn online, as a Prefect flow."""
    from atradiff.errors import UserError
    from atradiff.flows.run_folder import RunFolder, find_offline_run, new_run_path, newest_run_path, settings_carried_over
    from atradiff.project.layout import find_root
    from atradiff.project.staleness import require_offline_stages

    if resume and (overrides or algorithm or init_from):
        given = "--set" if overrides else "--algorithm" if algorithm else "--init-from"
        raise UserError(f"{given} and --resume exclude each other: a resumed run keeps the settings in its params.yaml")
    steps = [f"online.env_steps={env_steps}"] if env_steps is not None else []
    learned = find_offline_run(find_root(Path.cwd()), init_from) if init_from else None
    params, layout = project([*(overrides or []), *steps], algorithm, settings_carried_over(learned) if learned else None)
    run_dir = run_dir.resolve() if run_dir is not None else None
    if resume:
        path = run_dir or newest_run_path(layout.root, params.task.name, arm.value, seed)
        folder = RunFolder.open(path)
        params, arm = folder.params(), ArmChoice(folder.about()["arm"])
        layout = type(layout)(layout.root, params.task.name)
    else:
        path = run_dir or new_run_path(layout.root, params.task.name, arm.value, seed)
        if path.exists():
            raise UserError(f"the run folder {path} exists: go on with it by --resume, or choose another with --run-dir")
    imagines = arm == ArmChoice.atradiff and params.replay.synthetic_ratio > 0
    if imagines or arm == ArmChoice.rlpd:
        require_offline_stages(layout.root, params, models=imagines)
    console = Console(stderr=as_json)
    warn = partial(_warn, console)
    if dry_run:
        _tell_plan(params, arm, path, env_steps if resume else None, as_json, warn)
        return

    from atradiff.flows.online import run_flow
    from atradiff.flows.online_run import OnlineRun
    from atradiff.flows.server import ApiServer
    from atradiff.params.render import to_dict
    from atradiff.project.artifacts import device, use_one_thread
    from atradiff.reporting.progress import RunProgress
    from atradiff.reporting.tracking import tracking

    use_one_thread()
    with ApiServer() as server:
        online_run = (
            OnlineRun.resume(path, env_steps, layout, device(), warn)
            if resume
            else OnlineRun.begin(params, arm.value, seed, path, layout, device(), learned)
        )
        online_run = online_run.profiled() if profile else online_run
        done, steps = online_run.trainer.env_steps, online_run.params.online.env_steps
        console.print(f"[bold]{path.name}[/]: {arm}, seed {online_run.seed}, env steps {done:,} to {steps:,}", highlight=False)
        server.connect()
        names = list(dict.fromkeys(choice.value for choice in track or []))
        with (
            tracking(names, path, path.name, to_dict(online_run.params)) as trackers,
            RunProgress(console, steps, done, online_run.status) as progress,
        ):
            run_flow(online_run, progress, server, trackers)
    _tell_result(online_run, console, as_json)


def _warn(console: Console, text: str) -> None:
    console.print(f"[yellow]warning[/]: {text}", soft_wrap=True, highlight=False)


def _tell_plan(params: Params, arm: ArmChoice, path: Path, resumed_to: int | None, as_json: bool, warn: Callable[[str], None]) -> None:
    """What the run would do: its settings as the arm has them, and its phases; those of an existing run go on from its last checkpoint."""
    from dataclasses import replace

    from atradiff.flows.assemble import params_of_arm
    from atradiff.flows.checkpoints import Checkpoints
    from atradiff.flows.run_folder import RunFolder
    from atradiff.online.plan import Phase, plan
    from atradiff.params.render import to_dict
    from atradiff.reporting.tables import plan_table

    params = params_of_arm(params, arm.value)
    if resumed_to is not None:
        params = replace(params, online=replace(params.online, env_steps=resumed_to))
    state = Checkpoints(RunFolder.open(path)).latest(warn) if path.exists() else None
    phases = list(plan(params.online, params.adaptation.adapt_every, Phase(*state["after"]) if state is not None else None))
    if as_json:
        told = [{"phase": phase.kind, "env_steps": phase.env_steps} for phase in phases]
        typer.echo(json.dumps({"run_dir": str(path), "arm": arm, "params": to_dict(params), "plan": told}, indent=2))
        return
    print_params(params, as_json)
    Console().print(plan_table([(phase.kind, phase.env_steps) for phase in phases]))
    Console().print(f"would write {path}; nothing was started", soft_wrap=True, highlight=False)


def _tell_result(run: OnlineRun, console: Console, as_json: bool) -> None:
    """The report and what the run came to."""
    from atradiff.reporting.tables import evaluations_table

    report = run.finish()
    console.print(evaluations_table(run.folder.metrics()))
    if run.profile is not None:
        console.print(run.profile.write(run.folder), soft_wrap=True, highlight=False, markup=False)
    console.print(f"report: {report}", soft_wrap=True, highlight=False)
    if as_json:
        typer.echo(json.dumps({**runs.summary_of(run.folder), "report": str(report)}, indent=2))
