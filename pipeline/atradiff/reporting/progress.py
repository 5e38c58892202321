"""The progress bar of an online run."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from atradiff.reporting.summary import Row, number


class RateColumn(ProgressColumn):
    """Env steps in a second, while there are any."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} steps/s" if task.speed else "", style="progress.data.speed")


class RunProgress:
    """Env steps done, their rate, the time left, the phase and the last success rate; each evaluation also leaves a line."""

    def __init__(self, console: Console, env_steps: int, done: int) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[result]}"),
            console=console,
            expand=True,
        )
        self._warned = set[str]()
        self._task = self._progress.add_task("", total=env_steps, completed=done, result="")

    @property
    def console(self) -> Console:
        """Where others may print without tearing the bar."""
        return self._progress.console

    def __enter__(self) -> RunProgress:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def phase(self, description: str) -> None:
        self._progress.update(self._task, description=description)

    def step(self, env_steps: int) -> None:
        self._progress.update(self._task, completed=env_steps)

    def evaluated(self, row: Row) -> None:
        name, value = ("success", row["eval/success_rate"]) if row["eval/success_rate"] is not None else ("return", row["eval/return"])
        result = f"{name} {number(value, '{:.0%}' if name == 'success' else '{:.2f}')}"
        self._progress.update(self._task, result=f"[bold]{result}")
        self.console.print(f"{row['env_steps']:>9,} env steps: {result}, {row['time/seconds']:,.0f} s", highlight=False)

    def warn(self, name: str, text: str) -> None:
        """A line of warning, once for each name."""
        if name not in self._warned:
            self._warned.add(name)
            self.console.print(f"[yellow]{name}[/]: {text}", highlight=False, soft_wrap=True)
