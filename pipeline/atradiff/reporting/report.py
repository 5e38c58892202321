"""A run's report: one HTML file with everything in it, readable without a network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from atradiff.online.adaptation import Adapted
from atradiff.online.symptoms import Symptom
from atradiff.reporting.style import PALETTE
from atradiff.reporting.summary import Row, evaluation_cells, in_words, number, steps_of, summarize, time_parts, unit_of
from atradiff.synthesis.synthesizer import Imagined

TEMPLATE = Path(__file__).with_name("report.html.j2")
CAPTIONS = {
    "learning-curve": "Evaluations over the steps and over the wall clock.",
    "arms": "This run beside the others in its folder: a colour for each arm and its settings; of several seeds the mean, and a band from least to greatest.",
    "imagined": "The latest imagined trajectories beside real ones. Grey is what the pruner took away from the windows that were generated.",
    "sources": "What is stored, and how wrong the critics are on either kind of transition.",
    "lengths": "What the length estimator tells now of states that real episodes passed through.",
    "distances": "Imagined steps beside real ones from the same states, in the data's standard deviations: 0 is reality itself.",
    "times": "",
}
"""What there is to say of each picture, by the name of its file."""
MEDIA = {".svg": "image/svg+xml", ".png": "image/png"}


class Part(NamedTuple):
    """A labelled part of a bar; `share` of the whole is in [0, 1]."""

    label: str
    value: str
    share: float
    colour: str


def write_report(
    path: Path,
    *,
    name: str,
    about: Row,
    params_yaml: str,
    rows: Sequence[Row],
    pictures: Sequence[Path],
    imagined: Sequence[Imagined],
    adaptations: Sequence[Adapted],
    symptoms: Sequence[Symptom],
) -> None:
    """Write the report of one run to `path`."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["number"] = number
    html = environment.from_string(TEMPLATE.read_text()).render(
        name=name,
        about=about,
        params_yaml=params_yaml,
        evaluations=evaluation_cells(rows) if rows else ([], []),
        summary=summarize(name, about, rows),
        unit=in_words(unit_of(rows[-1])) if rows else "env steps",
        steps=steps_of(rows[-1]) if rows else 0,
        pictures=[(picture.stem, inline_image(picture), CAPTIONS[picture.stem]) for picture in pictures],
        pruned=pruned_rows(imagined),
        imagined=len(imagined),
        adaptations=adaptations,
        symptoms=symptoms,
        times=_parts(time_parts(rows[-1]), "{:,.1f} s") if rows else [],
    )
    path.write_text(html)


def inline_image(path: Path) -> str:
    """The picture as a data URI, for HTML and Markdown."""
    return f"data:{MEDIA[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def pruned_rows(imagined: Sequence[Imagined]) -> list[Part]:
    """What became of the generated rows: kept, or removed by which rule."""
    kept = sum(len(i.pruned.rows) for i in imagined)
    cut, loops, trimmed = (sum(getattr(i.pruned, rule) for i in imagined) for rule in ("cut", "loops", "trimmed"))
    parts = {"kept": kept, "after the end of the task": cut, "in loops": loops, "beyond the estimated length": trimmed}
    return _parts({label: float(count) for label, count in parts.items()}, "{:,.0f} rows") if imagined else []


def _parts(values: dict[str, float], pattern: str) -> list[Part]:
    total = sum(values.values()) or 1.0
    return [
        Part(label, pattern.format(value), value / total, colour) for (label, value), colour in zip(values.items(), PALETTE, strict=False)
    ]
