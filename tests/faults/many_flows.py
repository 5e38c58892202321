"""`make test-many`: start many online runs at the same moment, against one Prefect server or on a fresh home without any, and look for harm.

All have the same seed, so all are to be the same, bit for bit; and Prefect is to know each one as completed, with all of its tasks.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

PATIENCE_SECONDS = 3_600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flows", type=int)
    parser.add_argument("--server", action="store_true", help="One `atradiff ui` serves them all; without it there is none and nothing in Prefect's home.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        os.environ |= {"PREFECT_HOME": f"{made}/prefect", "MINARI_DATASETS_PATH": f"{made}/minari"}
        folder = Path(made)
        with socket.socket() as probe:  # nobody else's server, which may listen where Prefect's own would
            probe.bind(("127.0.0.1", 0))
            os.environ["PREFECT_SERVER_API_PORT"] = str(probe.getsockname()[1])
        tasks = _make_project(folder)
        if given.server:
            _serve(folder, stack)
        began = time.monotonic()
        ended, wrong = _run_all(folder, given.flows)
        seconds = time.monotonic() - began
        wrong += _differences(ended) + _untold(ended, tasks)
    print(f"{given.flows} flows in {seconds:,.0f} s, {'one server' if given.server else 'a fresh home'}; wrong: {len(wrong)}", *wrong, sep="\n")
    sys.exit(1 if wrong else 0)


def _make_project(folder: Path) -> int:
    """What a run needs; returns how many tasks one has."""
    import torch

    from atradiff.online.plan import plan
    from projects import online_params, tiny_params, train_models, write_params

    params = online_params()
    torch.set_num_threads(1)
    params = replace(params, online=replace(params.online, env_steps=20, evaluation_episodes=1))
    train_models(tiny_params(), write_params(folder, params))
    torch.set_deterministic_debug_mode("default")  # training stages switch them on for their process
    (folder / "runs").mkdir()
    return len(list(plan(params.online, params.adaptation.adapt_every)))


def _serve(folder: Path, stack: ExitStack) -> None:
    """`atradiff ui`, to which PREFECT_API_URL leads from then on. Prefect reads its settings once, so nothing of it may be imported before that."""
    assert "prefect" not in sys.modules
    os.environ["PREFECT_API_URL"] = url = f"http://127.0.0.1:{os.environ['PREFECT_SERVER_API_PORT']}/api"
    from atradiff.flows.server import answers

    log = stack.enter_context((folder / "server.log").open("wb"))
    server = stack.enter_context(subprocess.Popen([sys.executable, "-m", "atradiff.cli", "ui"], cwd=folder, stdout=log, stderr=log))
    stack.callback(server.terminate)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not answers(url):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError((folder / "server.log").read_text())
        time.sleep(0.5)


def _run_all(folder: Path, flows: int) -> tuple[list[Path], list[str]]:
    """Start all at once and wait; returns the runs that came to their end, and what was wrong with the others."""
    import atradiff.cli.online
    import atradiff.flows.flow  # noqa: F401 (what is heavy is imported once, before processes part)
    from kills import finish, start

    os.chdir(folder)
    paths = [Path("runs") / f"flow-{number}" for number in range(flows)]
    processes = [(start(_carry_out, path), path) for path in paths]
    ended, wrong = list[Path](), list[str]()
    for process, path in processes:
        try:
            if finish(process, path) == 0:
                ended.append(path)
            else:
                wrong.append(f"{path} was ended by a signal")
        except RuntimeError as error:
            wrong.append(f"{path}: {error}")
    return ended, wrong


def _carry_out(path: Path) -> None:
    from atradiff import cli

    sys.argv = ["atradiff", "online", "run", "--run-dir", str(path)]
    cli.main()


def _differences(paths: list[Path]) -> list[str]:
    from atradiff.flows.run_folder import RunFolder
    from same_runs import differences

    return [f"{path} is not {paths[0]}: {lost}" for path in paths[1:] for lost in differences(RunFolder(paths[0]), RunFolder(path))]


def _untold(paths: list[Path], tasks: int) -> list[str]:
    """What Prefect does not know of the runs as it should."""
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    from atradiff.flows.server import ApiServer

    wrong = list[str]()
    with ApiServer() as server:
        server.connect()
        with get_client(sync_client=True) as client:
            known = {run.name: run for run in client.read_flow_runs()}
            for name in (path.name for path in paths):
                if name not in known:
                    wrong.append(f"{name} is not known to Prefect")
                    continue
                of_run = FlowRunFilter(id=FlowRunFilterId(any_=[known[name].id]))
                done = Counter(str(run.state_name) for run in client.read_task_runs(flow_run_filter=of_run))
                if str(known[name].state_name) != "Completed" or done != {"Completed": tasks}:
                    wrong.append(f"{name} is {known[name].state_name}, its {tasks} tasks: {dict(done)}")
    return wrong


if __name__ == "__main__":
    main()
