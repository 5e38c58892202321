"""The command that measures speed."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


class Job(StrEnum):
    """What is measured; see docs/performance.md."""

    agent = "agent"
    sampler = "sampler"
    train = "train"
    online = "online"
    data = "data"
    scale = "scale"


def bench(
    jobs: Annotated[list[Job] | None, typer.Argument(metavar="JOB", help=f"What to measure: {', '.join(Job)}; all where none is named.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows into this file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Draw times and floors into this .png or .svg.")] = None,
    peers: Annotated[bool, typer.Option("--peers", help="Measure the peers, too (pip install -c constraints.txt -e '.\\[bench]').")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Alternating repeats; the median counts.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores for everybody; all where it is not given.")] = None,
) -> None:
    """Measure how fast the parts are, beside their floors and, if asked, beside the peers."""
    from atradiff.errors import UserError

    if out is not None and out.suffix not in (".png", ".svg"):
        raise UserError(f"--out {out} must end in .png or .svg")

    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from atradiff.bench.jobs import JOBS, run_jobs
    from atradiff.bench.machine import available_threads, limited_to, measure_machine
    from atradiff.bench.measure import Bench
    from atradiff.bench.peers import require_peers
    from atradiff.bench.show import bench_table, draw_rows, machine_sentence
    from atradiff.project.artifacts import device

    names = list(dict.fromkeys(job.value for job in jobs or Job))
    cores = available_threads()
    if threads is not None and threads > cores:
        raise UserError(f"--threads {threads} is more than the {cores} cores that this process may use: give at most {cores}")
    columns = TextColumn("{task.description:<44}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn()
    console = Console()
    with limited_to(threads or cores), Progress(*columns, console=console) as progress:
        if peers:
            require_peers(names)
        task = progress.add_task("the machine's own rates", total=sum(len(JOBS[name]) for name in names))
        machine = measure_machine(device())
        bench = Bench(machine, repeats, peers, report=lambda event: progress.update(task, description=event))
        rows = run_jobs(bench, names, lambda: progress.advance(task))
    console.print(machine_sentence(machine), highlight=False)
    console.print(bench_table(rows))
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=2) + "\n")
        console.print(f"rows: {json_file}", soft_wrap=True, highlight=False)
    if out is not None:
        draw_rows(out, rows, machine)
        console.print(f"picture: {out}", soft_wrap=True, highlight=False)
