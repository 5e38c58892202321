"""The style that all pictures share; SVG or PNG by the file's ending. The same input gives the same SVG, byte for byte."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

matplotlib.use("Agg")

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito: safe for the colour-blind
INK, MUTED, GRID, WALL = "#1F2933", "#616E7C", "#E4E7EB", "#CBD2D9"
LINES = (("o", "-"), ("s", "--"), ("^", "-."), ("D", ":"))  # two curves that coincide can both be seen
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "svg.hashsalt": "atradiff",
}


@contextmanager
def figure_at(path: Path, width: float, height: float) -> Generator[Figure]:
    """A figure of the given inches, written to `path` at the end."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=160, facecolor="white", metadata=metadata)


def thousands_axis(axes: Axes, ticks: int) -> None:
    """Whole numbers from 0 (env steps, seconds) with their thousands set apart, with at most so many intervals."""
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
