"""The program `atradiff`. Heavy imports happen inside the commands, so that --help answers at once."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, NoReturn

import typer
from farama_notifications import notifications
from rich.console import Console
from rich.text import Text

from atradiff.cli import data, offline, offline_run, online
from atradiff.cli.bench import bench
from atradiff.cli.imagine import imagine
from atradiff.cli.study import study
from atradiff.cli.synthesize import synthesize
from atradiff.cli.ui import serve, ui
from atradiff.errors import Stopped, UserError

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)
"""What the file system says where the user, and not the program, can mend it."""

app = typer.Typer(
    name="atradiff",
    help="Online reinforcement learning sped up by imagined trajectories.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog="Ends with 0 where all is done, 1 where it was refused or failed, 2 where the command line itself is wrong, 130 after Ctrl-C, 143 after SIGTERM.",
    pretty_exceptions_show_locals=False,
)


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"atradiff {version('atradiff')}")
        raise typer.Exit


@app.callback()
def allow(
    modules: Annotated[
        list[str] | None, typer.Option("--allow-import", metavar="MODULE", help="Let environment ids such as MODULE:Name-v0 run that module's code.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Tell the version and exit.")] = False,
) -> None:
    """Online reinforcement learning sped up by imagined trajectories."""
    del version  # its callback has told it
    if modules:
        from atradiff.params.load import ALLOW_IMPORT

        os.environ[ALLOW_IMPORT] = ",".join(modules)  # the processes that a command starts are told, too


offline.register(app)
app.add_typer(data.app, rich_help_panel="Parameters")
app.command(rich_help_panel="Online")(imagine)
app.command(rich_help_panel="Online")(synthesize)
app.add_typer(offline_run.app, rich_help_panel="Online")
app.add_typer(online.app, rich_help_panel="Online")
app.command(rich_help_panel="Online")(study)
app.command(rich_help_panel="Online")(ui)
app.command(rich_help_panel="Online")(serve)
app.command(rich_help_panel="Speed")(bench)


def main() -> None:
    """Run the program; a user's mistake is told in red, without a traceback, and a run that a signal has stopped tells how it goes on."""
    notifications.clear()  # gymnasium-robotics would print a notice about its Adroit tasks on every import
    try:
        app()
    except Stopped as stop:
        Console(stderr=True).print(Text(str(stop)), soft_wrap=True)
        sys.exit(stop.exit_code)
    except UserError as error:
        _refuse(str(error))
    except ArithmeticError as error:
        from atradiff.numbers import NotFinite

        if not isinstance(error, NotFinite):
            raise
        _refuse(f"{error}, as models give that learned too little or diverged: raise gradient_steps, lower learning_rate, or mend the environment")
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        place = error.filename or "a file"
        _refuse(f"{place} cannot be used ({error.strerror}): make sure that you may write there and that there is room, or take another place")


def _refuse(sentence: str) -> NoReturn:
    Console(stderr=True).print(Text.assemble(("error: ", "bold red"), sentence), soft_wrap=True)
    sys.exit(1)
