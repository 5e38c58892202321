"""What the commands that carry runs out have in common: options, the plan, the run under Prefect and a display, and what it came to."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from atradiff.cli import runs
from atradiff.cli.offline import print_params

if TYPE_CHECKING:
    from atradiff.flows.run import Run
    from atradiff.online.plan import Phase
    from atradiff.params.schema import Params


class TrackerChoice(StrEnum):
    """Where metrics go beside the run's own files; see `reporting.tracking`."""

    tensorboard = "tensorboard"
    wandb = "wandb"
    trackio = "trackio"


SeedOption = Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn at random.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint, with the run's own settings.")]
TrackOption = Annotated[list[TrackerChoice] | None, typer.Option(help="Send the metrics there, too; may be given several times.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the settings and the plan, and start nothing.")]
SummaryOption = Annotated[bool, typer.Option("--json", help="Print the summary, or the plan, as JSON; all else goes to stderr.")]
Warn = Callable[[str], None]
AnyRun = TypeVar("AnyRun", bound="Run[Any]")


def require_nothing_to_change(**given: object) -> None:
    """Refuse options beside --resume that would change the run."""
    from atradiff.errors import UserError

    for option, value in given.items():
        if value:
            raise UserError(f"--{option.replace('_', '-')} and --resume exclude each other: a resumed run keeps the settings in its params.yaml")


def require_free(path: Path) -> None:
    """Refuse a folder that is there."""
    from atradiff.errors import UserError

    if path.exists():
        raise UserError(f"the run folder {path} exists: go on with it by --resume, or choose another with --run-dir")


def warning(console: Console) -> Warn:
    """Prints a warning there."""
    return lambda text: console.print(f"[yellow]warning[/]: {text}", soft_wrap=True, highlight=False)


def tell_plan(unit: str, params: Params, phases: Sequence[Phase], arm: str, path: Path, as_json: bool) -> None:
    """What the run would do: its settings, and the phases that are still to be done."""
    from atradiff.params.render import to_dict
    from atradiff.reporting.tables import plan_table

    if as_json:
        told = [{"phase": phase.kind, unit: phase.steps} for phase in phases]
        typer.echo(json.dumps({"run_dir": str(path), "arm": arm, "params": to_dict(params), "plan": told}, indent=2))
        return
    print_params(params, as_json)
    Console().print(plan_table([(phase.kind, phase.steps) for phase in phases]))
    Console().print(f"would write {path}; nothing was started", soft_wrap=True, highlight=False)


def carry_out(make: Callable[[str], AnyRun], track: list[TrackerChoice] | None, console: Console) -> AnyRun:
    """Make the run on a device, and carry out what is left of it as a Prefect flow."""
    from atradiff.flows.flow import run_flow
    from atradiff.flows.server import ApiServer
    from atradiff.params.render import to_dict
    from atradiff.project.artifacts import device, set_up_torch
    from atradiff.reporting.progress import RunProgress
    from atradiff.reporting.summary import in_words
    from atradiff.reporting.tracking import tracking

    set_up_torch()
    with ApiServer() as server:
        run = make(device())
        name, done = run.folder.name, run.steps_done
        console.print(f"[bold]{name}[/]: {run.arm}, seed {run.seed}, {in_words(run.UNIT)} {done:,} to {run.steps:,}", highlight=False)
        server.connect()
        names = list(dict.fromkeys(choice.value for choice in track or []))
        with (
            tracking(names, run.folder.path, name, to_dict(run.params)) as trackers,
            RunProgress(console, run.steps, done, run.status) as progress,
        ):
            run_flow(run, progress, server, trackers)
    return run


def tell_result(run: Run[Any], console: Console, as_json: bool) -> None:
    """The report and what the run came to."""
    from atradiff.reporting.tables import evaluations_table

    report = run.finish()
    console.print(evaluations_table(run.folder.metrics()))
    console.print(f"report: {report}", soft_wrap=True, highlight=False)
    if as_json:
        typer.echo(json.dumps({**runs.summary_of(run.folder), "report": str(report)}, indent=2))
