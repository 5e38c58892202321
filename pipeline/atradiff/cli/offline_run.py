"""The commands around runs that learn from stored data alone."""

from __future__ import annotations

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
from atradiff.cli.offline import SetOption, project

app = typer.Typer(name="offline", help="Learn from offline and imagined data, with no env step.", no_args_is_help=True)
runs.register(app)


@app.command()
def run(
    agent: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="The algorithm: iql, td3bc, calql, or any that `atradiff algorithms` lists.", autocompletion=completion.algorithms
        ),
    ] = "iql",
    synthetic_ratio: Annotated[
        float | None, typer.Option(help="Share of the transitions that are imagined, in place of offline.synthetic_ratio; 0 is the data alone.")
    ] = None,
    gradient_steps: Annotated[int | None, typer.Option(min=1, help="Gradient steps, in place of offline.gradient_steps.")] = None,
    seed: SeedOption = 0,
    run_dir: Annotated[Path | None, typer.Option(help="The run's folder; runs/offline/TASK-AGENT-seedN where it is not given.")] = None,
    overrides: SetOption = None,
    resume: ResumeOption = False,
    track: TrackOption = None,
    dry_run: DryRunOption = False,
    as_json: SummaryOption = False,
) -> None:
    """Learn, evaluate on the way, and keep the agent for `atradiff online run --init-from`; a Prefect flow."""
    from atradiff.flows.offline_run import OfflineRun
    from atradiff.flows.run_folder import OFFLINE, new_offline_path, newest_offline_path, open_to_resume
    from atradiff.project.artifacts import device, set_up_torch
    from atradiff.project.layout import Layout
    from atradiff.project.runs import OFFLINE_RUNS
    from atradiff.project.staleness import require_offline_stages
    from atradiff.reporting.tracking import require_trackers

    if resume:
        require_nothing_to_change(set=overrides, synthetic_ratio=synthetic_ratio is not None)
    given = {"offline.synthetic_ratio": synthetic_ratio, "offline.gradient_steps": gradient_steps}
    settings = [f"{key}={value}" for key, value in given.items() if value is not None]
    params, layout = project([*(overrides or []), *settings], agent)
    run_dir = run_dir.resolve() if run_dir is not None else None
    if resume:
        path = run_dir or newest_offline_path(layout.root, params.task.name, agent, seed)
        params = open_to_resume(path, offline=True).params()
        params = OfflineRun.with_steps(params, gradient_steps) if gradient_steps is not None else params
        layout = Layout(layout.root, params.task.name)
    else:
        require_free(path := run_dir or new_offline_path(layout.root, params.task.name, agent, seed))
    require_offline_stages(layout.root, params, models=params.offline.synthetic_ratio > 0)
    console = Console(stderr=as_json)
    warn = warning(console)
    require_trackers(track or [])
    if dry_run:
        set_up_torch()
        if resume:
            phases = OfflineRun.still_to_do(path, gradient_steps, layout, device(), warn)
        else:
            OfflineRun.new_trainer(params, seed, layout, device())
            phases = OfflineRun.planned(params, None)
        tell_plan(OfflineRun.UNIT, params, phases, OFFLINE, path, as_json)
        return

    def make(device: str) -> OfflineRun:
        return OfflineRun.resume(path, gradient_steps, layout, device, warn) if resume else OfflineRun.begin(params, seed, path, layout, device)

    done = carry_out(make, track, console)
    tell_result(done, console, as_json)
    name = done.folder.name if path == layout.root / OFFLINE_RUNS / path.name else path
    console.print(f"go on from it: [bold]atradiff online run --init-from {name}", soft_wrap=True, highlight=False)
