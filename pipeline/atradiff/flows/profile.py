"""The profile of a run: a trace of some of its env steps, and where the seconds of all of it went."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from torch.profiler import profile

from atradiff.flows.run_folder import RunFolder, write_whole
from atradiff.online.plan import Phase
from atradiff.online.trainer import TIMERS, Trainer
from atradiff.reporting.tables import Seconds, profile_table

WARM_UP_ENV_STEPS = 20
RECORDED_ENV_STEPS = 200
OPERATIONS = 25
"""Lines in the table of operations."""
BETWEEN = "pictures, pages"
"""What is done between the phases."""


class Profile:
    """Records `RECORDED_ENV_STEPS` env steps of a run soon after its updates have begun, and times every phase by the trainer's timers.

    It changes no number of the run. A run that is too short gives the steps that it has.
    """

    def __init__(self, trainer: Trainer, env_steps: int) -> None:
        self._trainer = trainer
        self._first = min(trainer.env_steps + trainer.config.update_after_env_steps + WARM_UP_ENV_STEPS, env_steps - 1)
        self._recorder = profile(acc_events=True)
        self._recording = self._recorded = False
        self._tracing = 0.0  # seconds that starting and stopping the recorder took
        self._left: float | None = None  # when the last phase ended
        self.seconds: Seconds = {}

    @contextmanager
    def phase(self, phase: Phase) -> Generator[None]:
        """Whatever is done inside belongs to the phase."""
        self._between()
        before, start = self._seconds(), time.perf_counter()
        yield
        self._stop()
        self._left = time.perf_counter()
        parts = {name: seconds - before[name] for name, seconds in self._seconds().items()}
        self._add(phase.kind.replace("_", " "), {**parts, "rest": self._left - start - sum(parts.values())})

    def listening(self, on_step: Callable[[int], None]) -> Callable[[int], None]:
        """`on_step`, and the recording of the steps that are to be recorded."""

        def heard(env_steps: int) -> None:
            on_step(env_steps)
            if not self._recorded and not self._recording and env_steps >= self._first:
                start, self._recording = time.perf_counter(), True
                self._recorder.start()
                self._tracing += time.perf_counter() - start
            elif env_steps >= self._first + RECORDED_ENV_STEPS:
                self._stop()

        return heard

    def write(self, folder: RunFolder) -> str:
        """Write the trace and the tables into the run's folder; returns the tables."""
        self._between()
        text = io.StringIO()
        Console(file=text, width=100).print(profile_table(self.seconds))
        if self._recorded:
            self._recorder.export_chrome_trace(str(folder.trace))
            text.write(self._recorder.key_averages().table(sort_by="self_cpu_time_total", row_limit=OPERATIONS, max_name_column_width=40))
        write_whole(folder.profile, text.getvalue())
        return text.getvalue()

    def _seconds(self) -> dict[str, float]:
        return {**self._trainer.clock.seconds, "trace": self._tracing}

    def _between(self) -> None:
        if self._left is not None:
            self._add(BETWEEN, {"rest": time.perf_counter() - self._left})

    def _add(self, name: str, parts: dict[str, float]) -> None:
        known = self.seconds.setdefault(name, dict.fromkeys((*TIMERS, "trace", "rest"), 0.0))
        for part, seconds in parts.items():
            known[part] += seconds

    def _stop(self) -> None:
        if self._recording:
            start, self._recording, self._recorded = time.perf_counter(), False, True
            self._recorder.stop()
            self._tracing += time.perf_counter() - start
