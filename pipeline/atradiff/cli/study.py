"""The command that runs studies."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from atradiff.cli import completion

if TYPE_CHECKING:
    from atradiff.studies.execute import Failure
    from atradiff.studies.runs import CellRun

LIST = "list"
RESULTS = Path("docs", "results")


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The study's name, or `list` to see them all.")],
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to N-1 of every variant.")] = 8,
    jobs: Annotated[int, typer.Option(min=1, help="Cells that run at the same time, each on one core.")] = 1,
    task: Annotated[
        list[str] | None, typer.Option(help="A task in place of the study's own; may be given several times.", autocompletion=completion.tasks)
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a parameter for all cells, such as online.env_steps=2000.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; docs/results of the project where it is not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list, or the results, as JSON.")] = False,
) -> None:
    """Run a study, or go on with it, and write its results: JSON, a table, a picture.

    Every cell is an online run and a Prefect flow run; those below runs/studies/NAME that are finished are not run again.
    """
    if name == LIST:
        _list_studies(as_json)
        return
    from datetime import UTC, datetime

    from atradiff.params.load import read_override
    from atradiff.project.artifacts import device
    from atradiff.project.layout import find_root
    from atradiff.project.runs import STUDY_RUNS
    from atradiff.studies.catalogue import find_study
    from atradiff.studies.cells import make_cells, variants_of
    from atradiff.studies.execute import find_runs
    from atradiff.studies.processes import only_one
    from atradiff.studies.report import write_results
    from atradiff.studies.results import assemble

    found, settings, root = find_study(name), dict(read_override(text) for text in overrides or []), find_root(Path.cwd())
    tasks = list(dict.fromkeys(task or found.tasks))
    variants = {t: variants_of(found, t, settings) for t in tasks}
    cells = make_cells(found, tasks, seeds, settings)
    with only_one(root / STUDY_RUNS / name) as lock:
        runs = find_runs(cells, root, name)
        failures = _execute(runs, jobs, lock.fileno()) if not all(run.done() for run in runs) else []
    options = [*(part for t in task or [] for part in ("--task", t)), *(part for text in overrides or [] for part in ("--set", text))]
    document = assemble(
        study=name,
        summary=found.summary,
        command=shlex.join(["atradiff", "study", name, "--seeds", str(seeds), "--jobs", str(jobs), *options]),
        date=datetime.now(UTC).date().isoformat(),
        device=device(),
        jobs=jobs,
        seeds=seeds,
        overrides=settings,
        variants=variants,
        runs=runs,
        failures=failures,
    )
    console = Console(stderr=as_json)
    for path in write_results(out or root / RESULTS, document):
        console.print(f"written: {path}", soft_wrap=True, highlight=False)
    for failure in failures:
        console.print(f"[red]failed[/]: {failure.run.name}: {failure.why}, see {failure.log}", soft_wrap=True, highlight=False)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    if failures:
        raise typer.Exit(1)


def _execute(runs: list[CellRun], jobs: int, lock: int) -> list[Failure]:
    """Run what is not done, all reporting to one Prefect server."""
    from atradiff.flows.server import ApiServer
    from atradiff.studies.execute import execute
    from atradiff.studies.processes import Processes, environment_of_runs
    from atradiff.studies.progress import StudyProgress

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the runs are ended, too
    with ApiServer() as server:
        environment = environment_of_runs(server.connect(), Path(sys.executable).parent)
        with (
            StudyProgress(Console(stderr=True), len(runs), sum(run.done() for run in runs)) as progress,
            Processes(environment, lock) as processes,
        ):
            return execute(runs, jobs, processes, progress)


def _list_studies(as_json: bool) -> None:
    from atradiff.studies.catalogue import STUDIES

    if as_json:
        typer.echo(json.dumps({name: {"compares": found.summary, "tasks": found.tasks} for name, found in STUDIES.items()}, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("study", no_wrap=True)
    table.add_column("compares")
    table.add_column("tasks")
    for name, found in STUDIES.items():
        table.add_row(f"[bold]{name}", found.summary, ", ".join(found.tasks))
    Console().print(table)
