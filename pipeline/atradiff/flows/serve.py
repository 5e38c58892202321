"""The deployment that `atradiff serve` offers on Prefect's pages: runs are started there, and carried out here."""

# No postponed annotations here: Prefect loads this file alone, and could not look the parameters' types up then.
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from prefect import State, flow, get_run_logger
from prefect.artifacts import create_link_artifact
from prefect.settings import PREFECT_API_URL, PREFECT_RUNNER_SERVER_ENABLE, PREFECT_RUNNER_SERVER_HOST, temporary_settings
from prefect.states import Failed
from pydantic import Field

from atradiff.errors import UserError
from atradiff.flows.server import answers, seen_by_others, ui_address

PAGE = re.compile(r"https?://\S+/runs/flow-run/[0-9a-f-]{36}")
"""Where a run says that it is shown."""


@flow(name="atradiff-start", flow_run_name="start {arm} seed {seed}", persist_result=False)
def start_run(
    arm: Literal["atradiff", "agent", "rlpd"] = "atradiff",
    seed: Annotated[int, Field(ge=0)] = 0,
    env_steps: Annotated[int | None, Field(ge=1)] = None,
    algorithm: str | None = None,
    settings: list[str] | None = None,
) -> State | None:
    """Start an online run in the project that `atradiff serve` was called in.

    The run is a process and a flow run `atradiff-online` of its own, to which a link leads under Artifacts; what it prints is this one's log, and if
    this one is cancelled, it stops.

    Args:
        arm: What learns. agent has no offline data; rlpd has it, but imagines nothing.
        seed: Seed of everything that is drawn at random.
        env_steps: Real environment steps; none takes online.env_steps of params.yaml.
        algorithm: Settings by an algorithm's name, such as redq; none leaves those of params.yaml.
        settings: Changes of parameters, such as agent.utd_ratio=8.
    """
    given = {"--arm": arm, "--seed": seed, "--env-steps": env_steps, "--algorithm": algorithm}
    options = [part for option, value in given.items() if value is not None for part in (option, str(value))]
    sets = [part for setting in settings or [] for part in ("--set", setting)]
    command = [sys.executable, "-m", "atradiff.cli", "online", "run", *options, *sets]
    log, last = get_run_logger(), deque(["it said nothing"], maxlen=1)

    def follow(lines: Iterable[str]) -> None:
        for text in filter(None, map(str.strip, lines)):
            log.info(text)
            last.append(text)
            if page := PAGE.search(text):
                create_link_artifact(page.group(), link_text="the run and its pictures", key="started", description=f"{arm}, seed {seed}")

    # In a group of its own: a cancelled flow run's whole group gets a signal, and a second one would end the run at once, without a checkpoint.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0) as process:
        assert process.stdout is not None
        try:
            follow(process.stdout)
        except BaseException:  # cancelled: the run is to end, too
            process.terminate()
            follow(process.stdout)
            raise
    return Failed(message=f"the run ended with exit code {process.returncode}: {last[0]}") if process.returncode else None


def serving_seen_by_others() -> str | None:
    """A sentence for the user where whoever waits for runs to be started can be reached from elsewhere; by itself it listens to nobody and asks the
    server."""
    return seen_by_others(PREFECT_RUNNER_SERVER_HOST) if PREFECT_RUNNER_SERVER_ENABLE.value() else None


def server_url() -> str:
    """The API of the server that there is."""
    url = PREFECT_API_URL.value() or f"{ui_address()}/api"
    if not answers(url):
        raise UserError(f"no Prefect server answers at {url}: start one with `atradiff ui` in another terminal")
    return url


def serve_deployment(url: str, root: Path, task: str, jobs: int) -> None:
    """Offer `start_run` for the project in `root` at the server there, until Ctrl-C; at most `jobs` runs at the same time."""
    with temporary_settings({PREFECT_API_URL: url}):
        start_run.serve(name=task, tags=[task], description=f"Online runs of {task} in {root}", limit=jobs, print_starting_message=False)
