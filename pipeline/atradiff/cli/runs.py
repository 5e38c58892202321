"""The commands that look at runs: the same ones under `online` and under `offline`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from atradiff.cli import completion
from atradiff.cli.offline import JsonOption

if TYPE_CHECKING:
    from atradiff.flows.run_folder import RunFolder

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name in runs/, or the path of its folder.", autocompletion=completion.runs)
]
RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Runs' names in runs/, or paths of their folders.", autocompletion=completion.runs)
]


def register(app: typer.Typer) -> None:
    """Add the commands to a group."""
    app.command("list")(list_runs)
    app.command()(show)
    app.command()(compare)


def list_runs(as_json: JsonOption = False) -> None:
    """List the runs below runs/, online and offline ones, with those in its subfolders; those of studies have tables of their own."""
    from atradiff.flows.run_folder import RunFolder
    from atradiff.project.layout import find_root
    from atradiff.project.runs import RUNS, run_names

    root = find_root(Path.cwd())
    _print_summaries([summary_of(RunFolder(root / RUNS / name)) for name in run_names(root)], as_json)


def show(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show one run: where it comes from, and every evaluation."""
    from atradiff.reporting.tables import evaluations_table

    folder = _find(run)
    about, rows, summary = folder.about(), folder.metrics(), summary_of(folder)
    if as_json:
        typer.echo(json.dumps({**about, "summary": summary, "metrics": rows}, indent=2))
        return
    console = Console()
    console.print(f"[bold]{summary['run']}[/]: {summary['arm']} on {about['task']}, seed {about['seed']}", highlight=False)
    console.print(f"offline data {about['dataset']} {(about['data_sha256'] or '')[:12]}, code {about['git_commit']}", highlight=False)
    console.print(evaluations_table(rows))
    if folder.report.exists():
        console.print(f"report: {folder.report}", soft_wrap=True, highlight=False)


def compare(
    runs: RunsArgument,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None, typer.Option(help="Draw the learning curves into this .png or .svg, a colour for each arm and its settings.")
    ] = None,
) -> None:
    """Compare runs, in a table and a picture."""
    folders = [_find(run) for run in runs]
    summaries = [summary_of(folder) for folder in folders]
    if out is not None:
        _draw_curves(out, folders, summaries)
    _print_summaries(summaries, as_json)
    if out is not None and not as_json:
        Console().print(f"picture: {out}", soft_wrap=True, highlight=False)


def summary_of(folder: RunFolder) -> dict[str, Any]:
    """What the run comes to, under the name by which these commands find it."""
    from atradiff.project.layout import find_root
    from atradiff.project.runs import run_name
    from atradiff.reporting.summary import summarize

    return summarize(run_name(find_root(Path.cwd()), folder.path), folder.about(), folder.metrics())


def _draw_curves(out: Path, folders: list[RunFolder], summaries: list[dict[str, Any]]) -> None:
    from atradiff.errors import UserError
    from atradiff.flows.arms import RunSoFar, curves_of_arms
    from atradiff.reporting.pictures import learning_curves
    from atradiff.reporting.summary import unit_of

    if out.suffix not in (".png", ".svg"):
        raise UserError(f"--out {out} must end in .png or .svg")
    runs = [RunSoFar.of(folder) for folder in folders]
    for run, summary in zip(runs, summaries, strict=True):
        if not run.rows:
            raise UserError(f"run {summary['run']} has no evaluation yet: wait for its first, or leave it out")
    if len({unit_of(run.rows[0]) for run in runs}) > 1:
        raise UserError("--out cannot draw env steps of online runs beside gradient steps of offline ones: compare each kind on its own")
    learning_curves(out, curves_of_arms(runs), ", ".join(sorted({summary["task"] for summary in summaries})))


def _print_summaries(summaries: list[dict[str, Any]], as_json: bool) -> None:
    from atradiff.reporting.tables import runs_table

    if as_json:
        typer.echo(json.dumps(summaries, indent=2))
    elif summaries:
        console = Console()
        console.print(runs_table(summaries, console.width))
    else:
        Console().print("no runs yet: start one with [bold]atradiff online run")


def _find(run: str) -> RunFolder:
    """The run of that name below runs/, or at that path."""
    from atradiff.flows.run_folder import RunFolder
    from atradiff.project.layout import find_root
    from atradiff.project.runs import RUNS

    if (Path(run) / "run.json").is_file():
        return RunFolder.open(Path(run).resolve())
    return RunFolder.open(find_root(Path.cwd()) / RUNS / run)
