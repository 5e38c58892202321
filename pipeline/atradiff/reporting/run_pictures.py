"""Pictures of what a run tells of itself: its sources, its lengths, its adaptations, its time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter

from atradiff.online.distance import Distances
from atradiff.reporting.style import GRID, INK, MUTED, PALETTE, figure_at, thousands_axis
from atradiff.reporting.summary import Row, in_words, steps_of, time_parts, unit_of
from atradiff.trajectory import Array, BoolArray

SOURCES = {"critic/error_online": "real (D_o)", "critic/error_imagined": "imagined (D_s)"}


class Lengths(NamedTuple):
    """Steps that real episodes took from some of their states on, `true [N]`, and the estimator's quantiles 0.1, 0.5 and 0.9 of them, `estimated
    [N, 3]`. Where `open [N]` the episode was cut short: its steps are the least that it would have taken."""

    true: Array
    estimated: Array
    open: BoolArray


def draw_distances(path: Path, distances: Sequence[Distances]) -> None:
    """How far imagined steps are from real ones, before and after each adaptation."""
    with figure_at(path, 7.2, 3.2) as figure:
        axes = figure.add_subplot(title="How far imagination is from reality", xlabel="env steps", ylabel="sliced Wasserstein distance")
        steps, before, after = zip(*distances, strict=True)
        axes.vlines(steps, before, after, color=MUTED, linewidth=1.2)
        axes.plot(steps, before, "o", color="white", markeredgecolor=PALETTE[1], markeredgewidth=1.8, markersize=9, label="before the adaptation")
        axes.plot(steps, after, "s", color=PALETTE[0], markersize=5, label="after it")
        axes.set_ylim(0, 1.12 * max(*before, *after) or None)  # room for the uppermost
        thousands_axis(axes, 7)
        figure.legend(loc="outside lower center", ncols=2)


def draw_sources(path: Path, rows: Sequence[Row], synthetic_ratio: float) -> None:
    """The share of storage that is imagined, beside the one asked for, and the critics' error on either replay, over env steps."""
    steps = [row["env_steps"] for row in rows]
    with figure_at(path, 9.2, 3.2) as figure:
        share, errors = figure.subplots(1, 2)
        share.set(title="Imagined share of the storage", xlabel="env steps", ylim=(0, 1))
        share.axhline(synthetic_ratio, color=MUTED, linewidth=1.2, linestyle="--", label="asked for")
        share.plot(steps, [row["replay/synthetic_share"] for row in rows], "o-", color=PALETTE[0], label="realised", clip_on=False)
        share.yaxis.set_major_formatter(PercentFormatter(1.0))
        share.legend(loc="lower right")
        errors.set(title="Critics' error by source", xlabel="env steps", ylabel="mean TD error")
        for (metric, label), colour in zip(SOURCES.items(), PALETTE, strict=False):
            known = [(row["env_steps"], row[metric]) for row in rows if row[metric]]
            if known:
                errors.plot(*zip(*known, strict=True), "o-", color=colour, label=label)
                errors.set_yscale("log")
        if errors.lines:
            errors.legend(loc="best")
            low, high = errors.get_ylim()
            if high < 10 * low:  # powers of ten alone would be one line, or none
                errors.yaxis.set(major_locator=MaxNLocator(4), major_formatter=StrMethodFormatter("{x:g}"), minor_locator=NullLocator())
        for axes in (share, errors):
            thousands_axis(axes, 5)


def draw_lengths(path: Path, lengths: Lengths) -> None:
    """The steps that were left in real episodes beside the estimated ones: medians, and their 10 to 90 % range."""
    low, middle, high = lengths.estimated.T
    largest = 1.05 * max(lengths.true.max(), high.max())
    with figure_at(path, 5.2, 4.4) as figure:
        axes = figure.add_subplot(title="Estimated and true lengths", xlabel="steps the real episode took", ylabel="estimated steps")
        axes.plot([0, largest], [0, largest], color=GRID, linewidth=2, zorder=1)
        axes.vlines(lengths.true, low, high, color=PALETTE[0], linewidth=0.8, alpha=0.3)
        done = ~lengths.open
        axes.plot(lengths.true[done], middle[done], "o", color=PALETTE[0], markersize=4, label="episode that ended")
        if lengths.open.any():
            least = "cut short: at least so many"
            axes.plot(lengths.true[lengths.open], middle[lengths.open], ">", color="white", markeredgecolor=INK, markersize=5, label=least)
        axes.set(xlim=(0, largest), ylim=(0, largest))
        figure.legend(loc="outside lower center", ncols=2)


def draw_times(path: Path, rows: Sequence[Row]) -> None:
    """Where the seconds went, over the steps, the parts upon one another."""
    parts = [time_parts(row) for row in rows]
    with figure_at(path, 7.2, 3.2) as figure:
        axes = figure.add_subplot(title="Where the time went", xlabel=in_words(unit_of(rows[0])), ylabel="seconds")
        seconds = np.asarray([list(part.values()) for part in parts]).T
        axes.stackplot([steps_of(row) for row in rows], seconds, labels=list(parts[0]), colors=PALETTE, linewidth=0)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_ylim(bottom=0)
        thousands_axis(axes, 7)
        figure.legend(loc="outside lower center", ncols=3)
