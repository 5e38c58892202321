"""The commands around Prefect's pages."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

from atradiff.cli.offline import project


def ui() -> None:
    """Serve Prefect's pages with all runs, until Ctrl-C."""
    from atradiff.flows.server import require_no_ui, seen_by_others, serve_ui, ui_address

    require_no_ui()
    console = Console()
    console.print(f"runs: [bold]{ui_address()}[/] (those started from now on report here; Ctrl-C ends it)", highlight=False, soft_wrap=True)
    if warning := seen_by_others():
        console.print(f"[yellow]warning[/]: {warning}", soft_wrap=True, highlight=False)
    serve_ui()


def serve(jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1) -> None:
    """Let runs be started from Prefect's pages, until Ctrl-C."""
    from atradiff.flows.serve import serve_deployment, server_url, serving_seen_by_others
    from atradiff.flows.server import ui_address

    params, layout = project()
    url = server_url()
    os.chdir(layout.root)  # where the runs that are started are to find the project
    task = params.task.name
    console = Console()
    console.print(
        f"runs of {task} can be started at [bold]{ui_address()}/deployments[/], atradiff-start/{task} (Ctrl-C ends it)", highlight=False, soft_wrap=True
    )
    if warning := serving_seen_by_others():
        console.print(f"[yellow]warning[/]: {warning}", soft_wrap=True, highlight=False)
    serve_deployment(url, layout.root, task, jobs)
