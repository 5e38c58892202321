"""The Prefect flows `atradiff-online` and `atradiff-offline`: each phase of a run is a task, and what it finds is shown in Prefect's pages."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_client, tags, task
from prefect.artifacts import MarkdownArtifact, TableArtifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import State, StateType
from prefect.context import TagsContext
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.runtime import flow_run as this_flow_run
from prefect.states import Cancelled, Crashed
from prefect.utilities.urls import url_for
from rich.console import Console

from atradiff.errors import Stopped, UserError
from atradiff.flows.artifacts import Artifacts
from atradiff.flows.memory import collect_early, keep_giving_back
from atradiff.flows.pace import Pace
from atradiff.flows.pages import AWAY, Pages
from atradiff.flows.run import Run
from atradiff.flows.run_lock import is_held
from atradiff.flows.server import ApiServer
from atradiff.flows.stop import StopSignals
from atradiff.online.plan import Phase
from atradiff.online.symptoms import Symptom
from atradiff.reporting.progress import RunProgress
from atradiff.reporting.report import inline_image
from atradiff.reporting.summary import evaluation_cells, in_words, steps_of
from atradiff.reporting.tracking import Tracker

PICTURES_SHARE = 0.02
"""Of the run's time, at most; the last evaluation's are drawn whatever they take."""
PICTURES_AFTER = 150.0
"""Seconds from the run's start: its first pictures take some three, a fiftieth of them. Shorter runs draw their last ones only; their tables tell as much."""
SHOWN_EVALUATIONS = 100
"""The latest; Prefect keeps each table as it was at any time, so that all of a long run's would grow with the square of them."""


def run_flow(run: Run[Any], progress: RunProgress, server: ApiServer, trackers: Sequence[Tracker] = ()) -> None:
    """Carry the run out as a flow run, named after its folder and tagged by task, arm and seed. Raises `Stopped` after Ctrl-C or SIGTERM.

    The flow's parameters are what a reader of the pages wants to know; the run itself stays out of Prefect's hands, which would
    look through it. Raises `UserError` where the server does not take it.
    """
    _log_beside_the_bar(progress.console)
    keep_giving_back()
    collect_early()

    stops: list[Stopped] = []
    signals = StopSignals(progress.stopping)
    pages = Pages(lambda text: progress.console.print(f"[yellow]warning[/]: {text}", highlight=False, soft_wrap=True), server.revive)
    phases_left, artifacts, pace = list(run.phases), Artifacts(), Pace(PICTURES_SHARE, PICTURES_AFTER)

    @task(cache_policy=NO_CACHE, persist_result=False)
    def do(phase: Phase) -> State | None:
        progress.phase(phase.kind.replace("_", " "))
        try:
            metrics = run.do(phase, progress.step, lambda: signals.received)
        except Stopped as stop:
            stops.append(stop)
            return Cancelled(message=str(stop))
        if metrics is not None:
            progress.evaluated(metrics)
            for tracker in trackers:
                tracker.log({name: value for name, value in metrics.items() if value is not None}, steps_of(metrics))
            symptoms = run.symptoms()
            for symptom in symptoms:
                progress.warn(symptom.name, str(symptom))
            _show_tables(run, symptoms, pages, artifacts)
            if pace.due or run.steps_done == run.steps:
                with pace.kept():
                    _show_pictures(run, pages, artifacts)
        return None

    @flow(name=f"atradiff-{run.COMMAND.split()[0]}", flow_run_name=run.folder.name, persist_result=False, validate_parameters=False)
    def carry_out(task: str, arm: str, agent: str, seed: int, steps: int, run_folder: str) -> State | None:
        run.trainer.clock.start()
        if server.has_pages:
            progress.console.print(f"shown at {url_for('flow-run', this_flow_run.id)}", highlight=False, soft_wrap=True)
        bar = create_progress_artifact(0.0, key=_key(run, "progress"), description=f"{in_words(run.UNIT).capitalize()} of {steps:,}")
        # Inside, as Prefect listens to SIGTERM around; for each tag of a task it would ask the server for leave to run it; and the flow's connection,
        # by which pages are sent, is closed with it.
        with signals, TagsContext(current_tags=set()), pages:
            for phase in run.phases:
                kind = phase.kind.replace("_", "-")
                done = do.with_options(name=kind, task_run_name=f"{kind} to {phase.steps}")(phase, return_state=True)
                if stops:
                    return Cancelled(message=str(stops[0]))
                done.result()
                phases_left.remove(phase)
                share = 100.0 * run.steps_done / steps
                pages.show("progress", partial(update_progress_artifact, bar, share))  # type: ignore[arg-type]
        return None

    told = run.params.task.name, run.arm, run.params.agent.algorithm, run.seed, run.steps, str(run.folder.path)
    with tags(run.params.task.name, run.arm, f"seed-{run.seed}"):
        try:
            _close_killed(run.folder.path)
            carry_out(*told, return_state=True).result(raise_on_failure=not stops)
        except AWAY as error:
            if len(phases_left) == len(run.phases):
                why = str(error).splitlines()[0].rstrip(": ")
                raise UserError(f"Prefect's server does not take the run ({why}): go on with --resume when it answers") from error
            if phases_left:
                raise
            progress.warn("unreported", "Prefect's server was not told that the run has ended, and shows it as running")
    if stops:
        raise stops[0]


def _close_killed(folder: Path) -> None:
    """A flow run whose process was killed stays Running at the server; this marks those Crashed of which this machine can tell."""
    running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
    with get_client(sync_client=True) as client:
        for flow_run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=running)):
            told = flow_run.parameters.get("run_folder")
            why = why_killed(Path(told), folder) if told is not None else None
            if why is not None:
                client.set_flow_run_state(flow_run.id, Crashed(message=why), force=True)


def why_killed(folder: Path, ours: Path) -> str | None:
    """Why a flow run that is said to be running in `folder` is not, None where it may be. `ours` is the folder that this process holds."""
    if folder == ours:
        return "killed, and resumed later"
    if folder.is_dir() and not is_held(folder):
        return "its process is gone: --resume goes on with it"
    return None


def _show_tables(run: Run[Any], symptoms: list[Symptom], pages: Pages, artifacts: Artifacts) -> None:
    """The evaluations and the failure signatures."""
    headings, cells = evaluation_cells(run.folder.metrics()[-SHOWN_EVALUATIONS:])
    tables = {
        "evaluations": ([dict(zip(headings, row, strict=True)) for row in cells], f"Evaluations of {run.folder.name}"),
        "symptoms": ([symptom._asdict() for symptom in symptoms], "Failure signatures: what is seen, and what to do about it"),
    }
    for name, (table, description) in tables.items():
        pages.show(name, partial(artifacts.show, TableArtifact(table=table, key=_key(run, name), description=description)))


def _show_pictures(run: Run[Any], pages: Pages, artifacts: Artifacts) -> None:
    """The pictures so far."""
    for picture in run.draw():
        shown = f"![{picture.stem}]({inline_image(picture)})"
        pages.show(picture.stem, partial(artifacts.show, MarkdownArtifact(markdown=shown, key=_key(run, picture.stem), description=run.folder.name)))


def _key(run: Run[Any], name: str) -> str:
    """An artifact's key: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{run.folder.name}-{name}".lower()).strip("-")


def _log_beside_the_bar(console: Console) -> None:
    """Prefect's warnings go through the console of the progress bar. Left out are exceptions and the state that a task ends in, as both arrive at
    the caller anyway, and events that do not arrive while the server is away, as `Pages` tells of that."""
    for handler in logging.getLogger().handlers + logging.getLogger("prefect").handlers:
        if isinstance(handler, PrefectConsoleHandler):
            handler.console = console
            handler.setLevel(logging.WARNING)
            handler.addFilter(_tells_anything_new)
    for handler in logging.getLogger("prefect._internal").handlers:
        handler.setLevel(logging.CRITICAL)


def _tells_anything_new(record: logging.LogRecord) -> bool:
    return record.exc_info is None and not record.getMessage().startswith("Finished in state")
