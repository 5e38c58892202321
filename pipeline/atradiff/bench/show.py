"""The rows for people: a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from atradiff.bench.machine import Machine
from atradiff.bench.measure import FLOOR, OURS, Row
from atradiff.reporting.style import MUTED, PALETTE, STYLE

TIME_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
COLOURS = {OURS: PALETTE[0], FLOOR: MUTED}


def bench_table(rows: Sequence[Row]) -> Table:
    """A line for each implementation; the last column is our rate over its own."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("job")  # gives way where the terminal is narrow
    table.add_column("by", no_wrap=True)
    for column in ("median", "min to max", "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    previous = ""
    for row in rows:
        name = f"{row['job']}\n[dim]{row['unit']}" if row["job"] != previous else ""
        spread = "" if row["impl"] == FLOOR else f"{significant(row['min'])} to {significant(row['max'])}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
        table.add_row(name, f"[bold]{row['impl']}" if row["impl"] == OURS else row["impl"], significant(row["median"]), spread, ratio)
        previous = row["job"]
    return table


def significant(value: float) -> str:
    """Three significant digits, with k, M or G from ten thousand on."""
    for size, least, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e3, 1e4, "k")):
        if float(f"{value:.3g}") >= least:
            return f"{float(f'{value / size:.3g}'):g} {letter}"
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def machine_sentence(machine: Machine) -> str:
    """What the floors are made of."""
    threads = f", threads: {machine.threads}" if machine.device == "cpu" else ""
    return (
        f"{machine.device}{threads}; a large matrix product at {machine.flops_per_second / 1e9:,.0f} GFLOP/s, "
        f"a large copy at {machine.bytes_per_second / 1e9:,.1f} GB/s"
    )


def draw_rows(path: Path, rows: Sequence[Row], machine: Machine) -> None:
    """Seconds of one unit, a panel for each job; rows that are no rates have no place in it."""
    jobs: dict[str, list[Row]] = {}
    for row in rows:
        if row["unit"].endswith("/s"):
            jobs.setdefault(row["job"], []).append(row)
    heights = [len(members) + 1.2 for members in jobs.values()]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.3 * sum(heights) + 0.6), layout="constrained")
        figure.suptitle(machine_sentence(machine), fontsize=9)
        panels = figure.subplots(len(jobs), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (job, members) in zip(panels, jobs.items(), strict=True):
            _draw_job(axes, job, members)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, facecolor="white", metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_job(axes: Axes, job: str, rows: Sequence[Row]) -> None:
    longest = max(1 / row["median"] for row in rows)
    name, size = next(((n, s) for n, s in TIME_UNITS if longest >= s), TIME_UNITS[-1])
    times = [1 / row["median"] / size for row in rows]
    spread = [[t - 1 / row["max"] / size for t, row in zip(times, rows, strict=True)], [1 / row["min"] / size - t for t, row in zip(times, rows, strict=True)]]
    places = range(len(rows))
    axes.barh(places, times, height=0.7, xerr=spread, color=[COLOURS.get(row["impl"], PALETTE[1]) for row in rows], ecolor=MUTED)
    axes.set_yticks(places, [row["impl"] for row in rows])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    unit = rows[0]["unit"].removesuffix("/s").removesuffix("s")
    axes.set_title(f"{job}: {name} for one {unit}", fontsize=9)
