"""The keys of params.yaml, walked over the dataclasses: what is known, what each means, and which values it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from difflib import SequenceMatcher
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt
from typing_extensions import Doc

from atradiff.params.schema import Params

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}


class Key(NamedTuple):
    """One key: its dotted name, its type, its sentence, and its bounds. `section` says that it holds further keys."""

    name: str
    type: Any
    doc: str
    bounds: tuple[BaseMetadata, ...]
    section: bool

    @property
    def allowed(self) -> str:
        """The values it takes, in words."""
        if self.section:
            return "a section with keys of its own"
        optional = isinstance(self.type, UnionType)  # `int | None`
        inner = get_args(self.type)[0] if optional else self.type
        origin, parts = get_origin(inner) or inner, get_args(inner)
        if origin is Literal:
            return "one of " + ", ".join(str(value) for value in parts)
        words = f"a list, each entry {KINDS[parts[0]]}" if origin in (list, tuple) else KINDS[origin]
        limits = [f"{word} {getattr(bound, name)}" for bound in self.bounds for kind, (name, word) in BOUNDS.items() if isinstance(bound, kind)]
        return " ".join([words, " and ".join(limits)]).strip() + (" or null" if optional else "")


def section_doc(section: type) -> str:
    """The first line of a section's docstring."""
    return (section.__doc__ or "").strip().splitlines()[0]


def walk(section: type = Params, prefix: str = "") -> Iterator[Key]:
    """Every key of a section, in order, each section before its own keys."""
    hints = get_type_hints(section, include_extras=True)
    for entry in fields(section):
        hint, name = hints[entry.name], prefix + entry.name
        inner, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if is_dataclass(inner) and isinstance(inner, type):
            yield Key(name, inner, section_doc(inner), (), section=True)
            yield from walk(inner, name + ".")
        else:
            doc = next((part.documentation for part in metadata if isinstance(part, Doc)), "")
            yield Key(name, inner, doc, tuple(part for part in metadata if isinstance(part, BaseMetadata)), section=False)


@cache
def all_keys() -> dict[str, Key]:
    """Every key of params.yaml by its dotted name."""
    return {key.name: key for key in walk()}


def nearest(name: str) -> str:
    """The known key that looks most like `name`: its last word counts as much as the whole."""
    last, whole = (SequenceMatcher(None, "", part) for part in (_last_word(name), name))

    def alike(known: str, ratio: Callable[[SequenceMatcher[str]], float]) -> float:
        last.set_seq1(_last_word(known))
        whole.set_seq1(known)
        return ratio(last) + ratio(whole)

    found, most = "", -1.0
    for known in all_keys():  # a quick ratio is never less than the real one
        if alike(known, SequenceMatcher.quick_ratio) > most and (likeness := alike(known, SequenceMatcher.ratio)) > most:
            found, most = known, likeness
    return found


def _last_word(name: str) -> str:
    return name.rpartition(".")[2]
