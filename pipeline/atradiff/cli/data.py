"""The commands that show datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from atradiff.cli import completion
from atradiff.cli.offline import JsonOption

app = typer.Typer(name="data", help="Look at the Minari datasets on this machine.", no_args_is_help=True)

DatasetArgument = Annotated[str, typer.Argument(metavar="ID", help="A Minari dataset on this machine.", autocompletion=completion.datasets)]


@app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List the datasets on this machine."""
    from atradiff.project.datasets import list_datasets
    from atradiff.reporting.tables import datasets_table

    datasets = list_datasets()
    if as_json:
        typer.echo(json.dumps(datasets, indent=2))
        return
    console = Console()
    if datasets:
        console.print(datasets_table(datasets, console.width), highlight=False)
    else:
        console.print("There is no dataset here yet: [bold]atradiff collect[/] makes or downloads the one of params.yaml.")


@app.command()
def show(dataset: DatasetArgument, as_json: JsonOption = False) -> None:
    """Tell what a dataset holds: episodes, lengths, returns, coverage, and where it is from."""
    from atradiff.project.datasets import describe

    facts = describe(dataset).facts
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    table = Table(Column("what", style="bold"), Column("is", overflow="fold"), box=None, pad_edge=False, show_header=False)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), _told(value))
    Console().print(table, highlight=False)


@app.command()
def plot(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="The picture, .png or .svg.")] = Path("dataset.png"),
    as_json: JsonOption = False,
) -> None:
    """Draw a dataset's lengths, returns, and where its states lie."""
    from atradiff.errors import UserError

    if out.suffix not in (".png", ".svg"):
        raise UserError(f"--out {out} must end in .png or .svg")

    from atradiff.project.datasets import describe
    from atradiff.reporting.dataset_pictures import draw_dataset

    described = describe(dataset)
    facts = described.facts
    title = f"{dataset}: {facts['trajectories']:,} trajectories, {facts['transitions']:,} transitions"
    draw_dataset(out, described.data, described.maze, described.place, title)
    if as_json:
        typer.echo(json.dumps({"picture": str(out), **facts}, indent=2))
    else:
        Console().print(f"{title}: [bold]{out}[/]", highlight=False, soft_wrap=True)


def _told(value: Any) -> str:
    """A fact in words; parts of it by name, but for those that hold nothing."""
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_told(part)}" for name, part in value.items() if part not in (None, {}, []))
    if isinstance(value, list):
        return ", ".join(map(_told, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
