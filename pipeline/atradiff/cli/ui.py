"""The command that serves Prefect's pages."""

from __future__ import annotations

from rich.console import Console


def ui() -> None:
    """Serve Prefect's pages with all online runs, until Ctrl-C."""
    from atradiff.flows.server import serve_ui, ui_address

    Console().print(f"online runs: [bold]{ui_address()}[/] (runs started from now on report here; Ctrl-C ends it)", highlight=False)
    serve_ui()
