"""A study's results for people: a table in Markdown and the curves as SVG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atradiff.flows.run_folder import write_whole
from atradiff.reporting.pictures import Outcome, compared_variants
from atradiff.reporting.summary import number

Document = dict[str, Any]
COLUMNS = {
    "regret": "regret, env steps",
    "ratio": "over the control's",
    "first_at_level": "first at 0.9",
    "holds_from": "holds 0.9 from",
}
MORE_COLUMNS = ("falls", "failed episodes", "seconds", "gradient steps", "one-step error", "ms a trajectory")
EXPLANATION = """\
Regret is the area above the curve of evaluation success from env step 0 to the budget. A figure is the interquartile mean over seeds with its 95 %
bootstrap interval; `falls` counts, over all seeds, how often success had reached 0.9 and then lay below it for two evaluations running. The one-step error
is the worst of the horizons', as a share of a real step's length. [How it is measured](README.md)."""


def write_results(folder: Path, document: Document) -> list[Path]:
    """NAME.json, NAME.md and NAME.svg in `folder`; returns their paths. Without a finished cell there is no picture."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{document['study']}{ending}" for ending in (".json", ".md", ".svg")]
    write_whole(paths[0], json.dumps(document, indent=1, allow_nan=False) + "\n")
    write_whole(paths[1], markdown(document))
    panels: dict[str, dict[str, Outcome]] = {}
    for row in document["rows"]:
        if row["task"] != "all":
            panels.setdefault(row["task"], {})[row["label"]] = _outcome(row, document["cells"])
    if not panels:
        return paths[:2]
    compared_variants(paths[2], panels)
    return paths


def _outcome(row: Document, cells: Sequence[Document]) -> Outcome:
    """What is drawn of one line of a task's table."""
    steps, value, low, high = (np.asarray(row["curve"][part]) for part in ("env_steps", "iqm", "low", "high"))
    regrets = [cell["regret"] for cell in cells if (cell["task"], cell["label"]) == (row["task"], row["label"])]
    return Outcome(steps, (value, low, high), tuple(row["regret"].values()), np.asarray(regrets))


def markdown(document: Document) -> str:
    """The page of one study."""
    rows, name = document["rows"], document["study"]
    parts = [f"# Study `{name}`: {document['summary']}", f"    {document['command']}"]
    told = [f"{document['date']}, {document['device']}, seeds {_range(document['seeds'])}, {document['jobs']} at a time"]
    told += [" and ".join(document["machines"])] if rows else []
    told += [f"torch {document['versions']['torch']}"] if document["versions"] else []
    told += [f"commit {', '.join(commit[:12] + commit[40:] for commit in document['git_commits'])}"] if rows else []
    parts += ["; ".join(told) + ".", EXPLANATION]
    if document["failed"]:
        parts.append("**Not finished, and so not counted:**\n\n" + "\n".join(f"- {line}" for line in document["failed"]))
    if rows:
        parts.append(f"![Success over env steps]({name}.svg)")
    for task in document["tasks"]:
        here = [row for row in rows if row["task"] == task]
        if here:
            parts += [f"## {task}", _table(["variant", "seeds", *COLUMNS.values(), *MORE_COLUMNS], [_cells(row) for row in here])]
            parts.append(_every_seed(document, task, [row["label"] for row in here]))
    if over_all := [row for row in rows if row["task"] == "all"]:
        header = ["variant", "seeds of each task", "regret, share of the budget", COLUMNS["ratio"]]
        lines = [[row["label"], str(row["seeds"]), _estimate(row["regret_share"], "{:.3f}"), _ratio(row)] for row in over_all]
        parts += ["## All tasks together", _table(header, lines)]
    return "\n\n".join(parts) + "\n"


def _cells(row: Document) -> list[str]:
    """One line of a task's table."""
    imagination = row["imagination"] or {}
    return [
        row["label"],
        str(row["seeds"]),
        _estimate(row["regret"]),
        _ratio(row),
        _estimate(row["first_at_level"], missing="never"),
        _estimate(row["holds_from"], missing="never"),
        str(row["falls"]),
        _estimate(row["failed_episodes"], "{:,.1f}"),
        number(row["seconds"]["value"]),
        number(row["gradient_steps"]["value"]),
        number(imagination.get("error_over_real_step"), "{:.2f}"),
        number(imagination.get("milliseconds_per_trajectory"), "{:.1f}"),
    ]


def _every_seed(document: Document, task: str, labels: Sequence[str]) -> str:
    """Each seed's regret, as a table; `-` where a run is missing."""
    regrets = {(cell["label"], cell["seed"]): cell["regret"] for cell in document["cells"] if cell["task"] == task}
    lines = [[label, " ".join(number(regrets.get((label, seed))) for seed in document["seeds"])] for label in labels]
    return _table(["variant", f"regret, seeds {_range(document['seeds'])}"], lines)


def _ratio(row: Document) -> str:
    if row["label"] == row["control"]:
        return "the control"
    return _estimate(row["ratio"], "{:.2f}", missing="∞") if row["ratio"] else "-"


def _estimate(figure: dict[str, float | None], pattern: str = "{:,.0f}", missing: str = "-") -> str:
    value, low, high = (number(figure[part], pattern, missing) for part in ("value", "low", "high"))
    return value if low == high == value else f"{value} [{low}, {high}]"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def _range(seeds: Sequence[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
