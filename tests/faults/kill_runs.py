"""`make test-faults`: kill online runs at random instants, go on with them, and count what was lost."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arm", default="atradiff")
    parser.add_argument("--program", action="store_true", help="The whole program with Prefect, in place of its run alone.")
    parser.add_argument("--stop", action="store_true", help="SIGTERM and Ctrl-C in turn, in place of kill -9; with --program.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        os.environ |= {"PREFECT_HOME": f"{made}/prefect", "MINARI_DATASETS_PATH": f"{made}/minari"}
        _kill_all(Path(made), given, stack)


def _kill_all(folder: Path, given: argparse.Namespace, stack: ExitStack) -> None:
    """What is heavy is imported once, before the processes part."""
    import torch

    from atradiff.flows.online_run import OnlineRun
    from atradiff.project.layout import Layout
    from kills import Tally, kill_runs
    from projects import online_params, tiny_params, train_models, write_params

    torch.set_num_threads(1)
    params = online_params()
    params = replace(params, online=replace(params.online, env_steps=80))
    train_models(tiny_params(), write_params(folder, params))  # collected in longer episodes than the run has
    torch.set_deterministic_debug_mode("default")  # training stages switch them on for their process
    os.chdir(folder)
    (folder / "runs").mkdir()

    def carry_out(path: Path) -> None:
        layout = Layout(folder, params.task.name)
        run = OnlineRun.resume(path, None, layout, "cpu", print) if path.exists() else OnlineRun.begin(params, given.arm, 0, path, layout, "cpu")
        for phase in run.phases:
            run.do(phase, lambda env_steps: None)

    def note(tally: Tally) -> None:
        print(f"{sum(tally.signals.values())} signals, {tally.in_checkpoint} in a checkpoint, {tally.runs} runs ended", flush=True)

    if given.program:
        from atradiff.flows.server import SharedServer

        server = SharedServer(folder / "prefect")
        stack.callback(server.leave)
        server.wait()
        carry_out = partial(_program, given.arm, server.url)
    by = (signal.SIGTERM, signal.SIGINT) if given.stop else (signal.SIGKILL,)
    tally = kill_runs(carry_out, folder / "runs", given.kills, given.seed, by, note)
    print(f"{tally.signals}, in the midst of a checkpoint: {tally.in_checkpoint}, runs that came to their end: {tally.runs}, lost: {len(tally.lost)}")
    print("\n".join(tally.lost))
    sys.exit(1 if tally.lost else 0)


def _program(arm: str, url: str, path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from atradiff import cli

    sys.argv = ["atradiff", "online", "run", "--run-dir", str(path), *(["--resume"] if path.exists() else ["--arm", arm])]
    with temporary_settings({PREFECT_API_URL: url}):
        cli.main()


if __name__ == "__main__":
    main()
