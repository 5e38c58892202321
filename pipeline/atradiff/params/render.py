"""Writing params.yaml: every key with its sentence above it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from atradiff.params.keys import all_keys, walk
from atradiff.params.schema import Params

PLAIN = re.compile(r"[A-Za-z][\w./-]*\Z")
RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
HEADER = """\
# All parameters of the project. `atradiff use TASK` writes this file anew, `atradiff show-params` shows it as it is read,
# and `--set section.key=value` changes a value for one command.
"""


def to_dict(params: Params) -> dict[str, Any]:
    """The parameters as plain dicts, lists, numbers and strings."""
    return _plain(asdict(params))


def to_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Plain nested values by dotted key, as `--set` takes them."""
    settings: dict[str, Any] = {}
    for name, value in values.items():
        key = all_keys().get(prefix + name)
        if isinstance(value, dict) and (key is None or key.section):
            settings |= to_settings(value, f"{prefix}{name}.")
        else:
            settings[prefix + name] = value
    return settings


def render_yaml(params: Params) -> str:
    """The whole params.yaml."""
    values = to_dict(params)
    lines = [HEADER]
    for key in walk():
        indent = "  " * key.name.count(".")
        if key.section and not indent:
            lines.append("")
        lines.append(f"{indent}# {key.doc}")
        *sections, last = key.name.split(".")
        value: Any = values
        for section in sections:
            value = value[section]
        lines.append(f"{indent}{last}:" + ("" if key.section else f" {_scalar(value[last])}"))
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def _scalar(value: Any) -> str:
    """One value in YAML's flow style."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return np.format_float_positional(value, trim="0")
    if isinstance(value, str):
        return value if PLAIN.match(value) and value.lower() not in RESERVED else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_scalar(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_scalar(part) for part in value) + "]"
    return str(value)
