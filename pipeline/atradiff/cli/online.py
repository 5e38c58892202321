"""The commands around online runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from atradiff.cli import completion, runs
from atradiff.cli.carry_out import (
    DryRunOption,
    ResumeOption,
    SeedOption,
    SummaryOption,
    TrackOption,
    carry_out,
    require_free,
    require_nothing_to_change,
    tell_plan,
    tell_result,
    warning,
)
from atradiff.cli.offline import AlgorithmOption, SetOption, project

app = typer.Typer(name="online", help="Online runs: start, resume, look at and compare them.", no_args_is_help=True)
runs.register(app)


class ArmChoice(StrEnum):
    """What learns; see `flows.assemble.params_of_arm`."""

    atradiff = "atradiff"
    agent = "agent"
    rlpd = "rlpd"


@app.command()
def run(
    arm: Annotated[
        ArmChoice, typer.Option(help="agent has no offline data; rlpd has it, but imagines nothing.")
    ] = ArmChoice.atradiff,
    seed: SeedOption = 0,
    env_steps: Annotated[int | None, typer.Option(min=1, help="Real environment steps, in place of online.env_steps.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="The run's folder; runs/TASK-ARM-seedN where it is not given.")] = None,
    algorithm: AlgorithmOption = None,
    overrides: SetOption = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Go on from an offline run's agent, with its settings of the agent: a name that `atradiff offline list` shows, or a folder.",
            autocompletion=completion.offline_runs,
        ),
    ] = None,
    resume: ResumeOption = False,
    profile: Annotated[bool, typer.Option("--profile", help="Tell where the time went, and record a trace of 200 env steps.")] = False,
    track: TrackOption = None,
    dry_run: DryRunOption = False,
    as_json: SummaryOption = False,
) -> None:
    """Learn online, as a Prefect flow."""
    from atradiff.flows.assemble import params_of_arm
    from atradiff.flows.online_run import OnlineRun
    from atradiff.flows.run_folder import find_offline_run, new_run_path, newest_run_path, open_to_resume, settings_carried_over
    from atradiff.project.artifacts import device, set_up_torch
    from atradiff.project.layout import Layout, find_root
    from atradiff.project.staleness import require_offline_stages
    from atradiff.reporting.tracking import require_trackers

    if resume:
        require_nothing_to_change(set=overrides, algorithm=algorithm, init_from=init_from)
    steps = [f"online.env_steps={env_steps}"] if env_steps is not None else []
    learned = find_offline_run(find_root(Path.cwd()), init_from) if init_from else None
    params, layout = project([*(overrides or []), *steps], algorithm, settings_carried_over(learned) if learned else None)
    run_dir = run_dir.resolve() if run_dir is not None else None
    if resume:
        path = run_dir or newest_run_path(layout.root, params.task.name, arm.value, seed)
        folder = open_to_resume(path, offline=False)
        params, arm = folder.params(), ArmChoice(folder.about()["arm"])
        params = OnlineRun.with_steps(params, env_steps) if env_steps is not None else params
        layout = Layout(layout.root, params.task.name)
    else:
        require_free(path := run_dir or new_run_path(layout.root, params.task.name, arm.value, seed))
    imagines = arm == ArmChoice.atradiff and params.replay.synthetic_ratio > 0
    if imagines or arm == ArmChoice.rlpd:
        require_offline_stages(layout.root, params, models=imagines)
    console = Console(stderr=as_json)
    warn = warning(console)
    require_trackers(track or [])
    if dry_run:
        set_up_torch()
        if resume:
            phases = OnlineRun.still_to_do(path, env_steps, layout, device(), warn)
        else:
            params = params_of_arm(params, arm.value)
            OnlineRun.new_trainer(params, arm.value, seed, layout, device(), learned)
            phases = OnlineRun.planned(params, None)
        tell_plan(OnlineRun.UNIT, params, phases, arm, path, as_json)
        return

    def make(device: str) -> OnlineRun:
        made = (
            OnlineRun.resume(path, env_steps, layout, device, warn)
            if resume
            else OnlineRun.begin(params, arm.value, seed, path, layout, device, learned)
        )
        return made.profiled() if profile else made

    done = carry_out(make, track, console)
    tell_result(done, console, as_json)
    if done.profile is not None:
        console.print(done.profile.write(done.folder), soft_wrap=True, highlight=False, markup=False)
