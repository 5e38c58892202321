"""The commands around params.yaml, and the offline stages that dvc.yaml calls."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from atradiff.cli import completion

if TYPE_CHECKING:
    from atradiff.params.schema import Params
    from atradiff.project.layout import Layout

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a parameter for this command, such as agent.tau=0.01.", autocompletion=completion.settings
    ),
]
AlgorithmOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Take the settings of one that `atradiff algorithms` lists; --set wins over them.",
        autocompletion=completion.algorithms,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataOption = Annotated[str | None, typer.Option(metavar="NAME", help="The offline data: a level that `atradiff tasks` lists, `remote`, or a Minari id.")]
MixOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID", help="A Minari dataset on this machine to mix in; may be given several times.", autocompletion=completion.datasets
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (tasks, algorithms, use, show_params):
        app.command(rich_help_panel="Parameters")(command)
    for command in (repro, collect, convert, train_denoiser, train_length_estimator, train_reward_model, evaluate_synthesis):
        app.command(rich_help_panel="Offline stages (`dvc repro` runs them all)")(command)


def tasks(as_json: JsonOption = False) -> None:
    """List the tasks that come with the project, and the offline data that each can have."""
    from atradiff.params.tasks import SCRIPTED, SELF_TAUGHT, TASKS

    if as_json:
        listed = {
            name: {
                "about": task.about,
                "environment": task.environment,
                "max_episode_steps": task.max_episode_steps,
                "collected": list(task.qualities),
                "remote": list(task.remote),
            }
            for name, task in TASKS.items()
        }
        typer.echo(json.dumps(listed, indent=2))
        return
    table = Table(Column("task", no_wrap=True), "to do", "--data", box=None, pad_edge=False)  # names are typed again
    levels = {frozenset(SCRIPTED): "any level", frozenset(SELF_TAUGHT): "any but noisy"}
    for name, task in TASKS.items():
        here = levels.get(frozenset(task.qualities), ", ".join(task.qualities))
        table.add_row(f"[bold]{name}", task.about, f"{here}, remote" if task.remote else here)
    console = Console()
    console.print(table, highlight=False)
    console.print(f"\nLevels, collected here: {', '.join(SCRIPTED)}. Remote: downloaded from Minari; --json tells the ids.")
    console.print("Meta-World's other tasks have names like these. A Minari dataset of your own is a task, too: [bold]atradiff use[/] takes its id.")


def algorithms(as_json: JsonOption = False) -> None:
    """List the algorithms, and what their names set."""
    from atradiff.params.algorithms import ALGORITHMS, OFFLINE_ALGORITHMS, PLAIN

    if as_json:
        known = ALGORITHMS | OFFLINE_ALGORITHMS
        told = {name: {"paper": algorithm.paper, "settings": dict(algorithm.settings)} for name, algorithm in known.items()}
        typer.echo(json.dumps(told, indent=2))
        return
    console = Console()
    for title, group in (("online", ALGORITHMS), ("offline, and on from there", OFFLINE_ALGORITHMS)):
        table = Table(Column("agent.", no_wrap=True), *group, box=None, pad_edge=False, title=title, title_justify="left")
        for key in PLAIN:
            table.add_row(key.removeprefix("agent."), *(f"{algorithm.settings[key]}".lower() for algorithm in group.values()))
        table.add_row("paper", *(algorithm.paper for algorithm in group.values()))
        console.print(table, highlight=False)
    console.print("\nTake one by [bold]--algorithm NAME[/], for a run or, with [bold]atradiff use[/], for good.")


def use(
    task: Annotated[str, typer.Argument(help="A name that `atradiff tasks` lists, or the id of a Minari dataset.", autocompletion=completion.tasks)],
    algorithm: AlgorithmOption = None,
    data: DataOption = None,
    mix: MixOption = None,
) -> None:
    """Write a task's parameters into params.yaml and show what changed."""
    import difflib

    from atradiff.errors import UserError
    from atradiff.params.algorithms import find_algorithm
    from atradiff.params.load import with_settings
    from atradiff.params.presets import preset
    from atradiff.params.render import render_yaml
    from atradiff.project.layout import PARAMS_FILE, find_root

    try:
        path = find_root(Path.cwd()) / PARAMS_FILE
        before = path.read_text()
    except UserError:
        if not (Path.cwd() / "dvc.yaml").is_file():
            raise
        path, before = Path.cwd() / PARAMS_FILE, ""
    params = preset(task, data, mix or [])
    if algorithm is not None:
        params = with_settings(params, find_algorithm(algorithm).settings, f"--algorithm {algorithm}")
    after = render_yaml(params)
    path.write_text(after)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", PARAMS_FILE, lineterm="", n=1)
    difference = "\n".join(lines) if before else ""
    if difference:
        _print_text(difference, "diff")
    Console().print(f"{path} is {'unchanged' if before == after else 'written'}: task [bold]{task}[/]", soft_wrap=True, highlight=False)


def show_params(overrides: SetOption = None, algorithm: AlgorithmOption = None, as_json: JsonOption = False) -> None:
    """Print the parameters as they are read, with every default."""
    params, _ = project(overrides, algorithm)
    print_params(params, as_json)


def print_params(params: Params, as_json: bool) -> None:
    """As YAML, coloured where someone looks at it, or as JSON."""
    from atradiff.params.render import render_yaml, to_dict

    if as_json:
        typer.echo(json.dumps(to_dict(params), indent=2))
    else:
        _print_text(render_yaml(params).rstrip(), "yaml")


def _print_text(text: str, language: str) -> None:
    """Coloured and wrapped where someone looks at it, as it is elsewhere."""
    from rich.syntax import Syntax  # slow to import, and --help must answer at once

    console = Console()
    if console.is_terminal:
        console.print(Syntax(text, language, theme="ansi_light", background_color="default", word_wrap=True))
    else:
        typer.echo(text)


def collect() -> None:
    """Make sure that the offline dataset is on this machine: collect or download it."""
    from atradiff.stages import collect as stage

    _alone("collect", stage.run)


def convert() -> None:
    """Turn the Minari dataset into the Zarr store."""
    from atradiff.stages import convert as stage

    _alone("convert", stage.run)


def train_denoiser(horizon: Annotated[int, typer.Option(help="Rows of its windows, one of denoiser.horizons.")]) -> None:
    """Train the denoiser of one horizon."""
    from atradiff.errors import UserError
    from atradiff.stages import train_denoiser as stage

    def run(params: Params, layout: Layout) -> None:
        if horizon not in params.denoiser.horizons:
            raise UserError(f"horizon {horizon} is not in denoiser.horizons, {params.denoiser.horizons}: choose one of them, or add it to params.yaml")
        stage.run(params, layout, horizon)

    _alone(f"train-denoiser-{horizon}", run)


def train_length_estimator() -> None:
    """Train the length estimator."""
    from atradiff.stages import train_length_estimator as stage

    _alone("train-length-estimator", stage.run)


def train_reward_model() -> None:
    """Train the reward model of the `learned` reward arm."""
    from atradiff.stages import train_reward_model as stage

    _alone("train-reward-model", stage.run)


def evaluate_synthesis() -> None:
    """Measure imagined trajectories against the simulator and held-out data."""
    from atradiff.stages import evaluate_synthesis as stage

    _alone("evaluate-synthesis", stage.run)


def _alone(stage: str, run: Callable[[Params, Layout], None]) -> None:
    """Carry a stage out while no other process does."""
    from atradiff.project.stage_lock import alone

    params, layout = project()
    with alone(layout, stage):
        run(params, layout)


def repro(
    targets: Annotated[list[str] | None, typer.Argument(help="Stages to end with, such as `convert`; without any, all.")] = None,
) -> None:
    """Run the stages that are missing or stale: `dvc repro`, after clearing away what killed ones have left in its way."""
    from atradiff.project.dvc_locks import make_ready
    from atradiff.project.layout import find_root

    root = find_root(Path.cwd())
    make_ready(root)
    os.chdir(root)
    os.execv(sys.executable, [sys.executable, "-m", "dvc", "repro", *(targets or [])])


def project(
    overrides: list[str] | None = None, algorithm: str | None = None, base: Mapping[str, Any] | None = None
) -> tuple[Params, Layout]:
    """The parameters and the paths of the project around the working folder."""
    from atradiff.params.load import load_params
    from atradiff.project.layout import PARAMS_FILE, Layout, find_root

    root = find_root(Path.cwd())
    params = load_params(root / PARAMS_FILE, overrides, algorithm, base)
    return params, Layout(root, params.task.name)
