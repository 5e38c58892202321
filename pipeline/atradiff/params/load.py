"""Reading params.yaml: overrides, unknown keys, types and ranges, and what must hold between keys."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from atradiff.errors import UserError
from atradiff.params.algorithms import find_algorithm
from atradiff.params.keys import all_keys, nearest
from atradiff.params.plain_yaml import read_yaml, require_short
from atradiff.params.render import to_dict
from atradiff.params.schema import Params
from atradiff.synthesis.length_estimator import QUANTILES
from atradiff.untrusted import regular_file

ALLOW_IMPORT = "ATRADIFF_ALLOW_IMPORT"
"""The environment variable that names, divided by commas, the modules that environment ids may import."""
SHOWN = 200
"""Characters of a wrong value that a sentence shows."""


def load_params(
    path: Path, overrides: list[str] | None = None, algorithm: str | None = None, base: Mapping[str, Any] | None = None
) -> Params:
    """The parameters in `path`, with the settings `base`, then those of an algorithm and then `a.b=c` overrides (c is read as YAML).

    Keys that are not there keep their defaults.
    """
    values = read_values(path)
    for name, value in (base or {}).items():
        _put(values, name, value, path.name)
    for name, value in (find_algorithm(algorithm).settings if algorithm else {}).items():
        _put(values, name, value, f"--algorithm {algorithm}")
    for override in overrides or []:
        _put(values, *read_override(override), f"--set {override!r}")
    return parse_params(values, f"{path.name} with --set" if overrides else path.name)


def read_values(path: Path) -> dict[str, Any]:
    """What is written in `path`, whatever keys it has: of another version's run, or of an environment whose code may not run here."""
    return values_in(read_text(path), path)


def read_text(path: Path) -> str:
    """The text of a params.yaml."""
    try:
        require_short(regular_file(path), str(path))
        return path.read_text()
    except FileNotFoundError as error:
        raise UserError(f"no {path.name} in {path.parent.resolve()}: name a clone of the repository; `atradiff use TASK` writes one there") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): repair it, or write a new one with `atradiff use pointmaze-umaze`") from error


def values_in(text: str, path: Path) -> dict[str, Any]:
    """The values in the text of a params.yaml, which was read from `path`."""
    values = read_yaml(text, str(path))
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no sections: write a new one with `atradiff use pointmaze-umaze`")
    return values


def parse_params(values: dict[str, Any], where: str) -> Params:
    """Plain values to `Params`; raises `UserError` that names the key, `where` it stands, and what it may be."""
    _check_keys(values, "", where)
    try:
        params = _adapter().validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise UserError(_explain(error, where)) from error
    _check_together(params, where)
    return params


@cache
def _adapter() -> TypeAdapter[Params]:
    return TypeAdapter(Params)


def read_override(override: str) -> tuple[str, Any]:
    """`a.b=c` as the key and its value."""
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise UserError(f"--set {override!r} is not of the form section.key=value, such as --set replay.n_step=5")
    return name.strip(), read_yaml(text, f"--set {override!r}")


def with_settings(params: Params, settings: Mapping[str, Any], where: str) -> Params:
    """The parameters with other values for some dotted keys."""
    values = to_dict(params)
    for name, value in settings.items():
        _put(values, name, value, where)
    return parse_params(values, where)


def _put(values: Any, name: str, value: Any, where: str) -> None:
    """Set one dotted key in place."""
    *sections, last = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"{where} goes below {section!r}, which is no section; the nearest known key is {nearest(name)}")
    values[last] = value


def _check_keys(values: dict[Any, Any], prefix: str, where: str) -> None:
    """Refuse keys that nobody reads, sections that are not mappings, and numbers that are not finite."""
    known = all_keys()
    for key, value in values.items():
        name = f"{prefix}{key}"[:SHOWN]
        if name not in known:
            raise UserError(f"{where} has an unknown key {name}: did you mean {nearest(name)}?")
        if known[name].section:
            if not isinstance(value, dict):
                raise UserError(f"{where}: {name} must be {known[name].allowed}, not {_show(value)}")
            _check_keys(cast("dict[Any, Any]", value), name + ".", where)
        else:
            _check_plain(name, value, where)


def _check_plain(name: str, value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {name} is {value}, but must be {all_keys()[name].allowed}: give a finite number")
    if isinstance(value, (list, dict)):
        if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
            raise UserError(f"{where}: {name} has a key that is no text: put it in quotes")
        for part in value.values() if isinstance(value, dict) else value:
            _check_plain(name, part, where)
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise UserError(f"{where}: {name} holds {_show(value)}, but only numbers, text, true, false, null, lists and mappings can stand there")


def _explain(error: ValidationError, where: str) -> str:
    """The first thing that is wrong, in one sentence."""
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    while names and ".".join(names) not in all_keys():
        names.pop()
    name = ".".join(names)
    hint = ": other algorithms are settings of these, see `atradiff algorithms`" if name == "agent.algorithm" else ""
    return f"{where}: {name} is {_show(first['input'])}, but must be {all_keys()[name].allowed}{hint}"


def _show(value: Any) -> str:
    text = json.dumps(value, default=str, skipkeys=True)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _check_together(params: Params, where: str) -> None:
    """What no single key can say."""
    if params.synthesis.length_quantile not in QUANTILES:
        raise UserError(
            f"{where}: synthesis.length_quantile is {params.synthesis.length_quantile}, but must be one of {', '.join(map(str, QUANTILES))}"
        )
    task_id, datasets = params.task.environment.task_id, 1 + len(params.task.dataset.mixed_with)
    if task_id and (len(task_id) != datasets or sorted(task_id) != [0] * (datasets - 1) + [1]):
        raise UserError(
            f"{where}: task.environment.task_id is {list(task_id)}, but must have an entry for each of the {datasets} mixed datasets, "
            "one of them 1 and the others 0"
        )
    _check_names(params, where)
    horizons, network = params.denoiser.horizons, params.denoiser.network
    if not horizons:
        raise UserError(f"{where}: denoiser.horizons is empty: name at least one horizon, such as [32, 64, 128]")
    if sorted(set(horizons)) != horizons:
        raise UserError(f"{where}: denoiser.horizons is {horizons}, but must be strictly ascending: write {sorted(set(horizons))}")
    if horizons[0] < 2:
        raise UserError(f"{where}: denoiser.horizons begins with {horizons[0]}, but a window needs at least 2 rows: remove it")
    if network.backbone == "dit":
        _check_divides(where, "denoiser.network.patch", network.patch, "every one of denoiser.horizons", horizons)
        _check_divides(where, "denoiser.network.heads", network.heads, "denoiser.network.width", [network.width])
    if network.backbone == "unet":
        _check_divides(where, "2 ** (denoiser.network.depth - 1)", 2 ** (network.depth - 1), "every one of denoiser.horizons", horizons)
        _check_divides(where, "8", 8, "denoiser.network.width", [network.width])
    if params.agent.num_min_critics > params.agent.num_critics:
        raise UserError(
            f"{where}: agent.num_min_critics is {params.agent.num_min_critics}, but must be at most agent.num_critics, {params.agent.num_critics}"
        )
    sampler = params.synthesis.sampler
    if sampler.sigma_min >= sampler.sigma_max:
        raise UserError(
            f"{where}: synthesis.sampler.sigma_min is {sampler.sigma_min}, but must be below synthesis.sampler.sigma_max, {sampler.sigma_max}"
        )


def _check_names(params: Params, where: str) -> None:
    """A name that becomes a path stays in its folder, and one that would import code was asked for."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", params.task.name):
        raise UserError(f"{where}: task.name is {params.task.name!r}, but names a folder: use letters, digits, '-', '_' and '.' only")
    module, colon, _ = params.task.environment.id.partition(":")
    if colon and module not in os.environ.get(ALLOW_IMPORT, "").split(","):
        raise UserError(
            f"{where}: task.environment.id is {params.task.environment.id!r}, which runs the code of {module!r}: if you trust it, say "
            f"`atradiff --allow-import {module} ...`, or set {ALLOW_IMPORT}={module} for `dvc repro`"
        )


def _check_divides(where: str, name: str, divisor: int, of: str, numbers: list[int]) -> None:
    bad = [number for number in numbers if number % divisor]
    if bad:
        raise UserError(f"{where}: {name} ({divisor}) must divide {of}, but does not divide {bad[0]}: change one of them")
