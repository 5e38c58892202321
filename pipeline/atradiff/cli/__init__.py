"""The program `atradiff`. Heavy imports happen inside the commands, so that --help answers at once."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.text import Text

from atradiff.cli import offline
from atradiff.errors import UserError

app = typer.Typer(
    name="atradiff",
    help="Online reinforcement learning sped up by imagined trajectories.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)
offline.register(app)


def main() -> None:
    """Run the program; a user's mistake is told in red, without a traceback."""
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(2)
