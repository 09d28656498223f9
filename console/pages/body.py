"""A message's body as a page shows it: in lines, with what the contract says against them; pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from contracts.differences import Difference, DifferenceKind
from contracts.requests.transaction import json_pointer

LINES_MAX: Final = 400
"""Shown of a body: its beginning. What differs is listed beside it, wherever it stands."""
VALUE_MAX: Final = 200
"""Characters of a value in a line."""
_INDENT: Final = "  "


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `kind` says how its place differs from the contract, `note` what is wanted."""

    text: str
    kind: DifferenceKind | None = None
    note: str = ""


def lines_of(content: Any, differences: Sequence[Difference]) -> list[Line]:
    """Return decoded JSON in lines, LINES_MAX at most, and what is missing where it would stand."""
    by_pointer = {one.pointer: one for one in reversed(differences)}
    missing: dict[str, list[Difference]] = defaultdict(list)
    for one in differences:
        if one.kind is DifferenceKind.MISSING:
            missing[one.pointer.rpartition("/")[0]].append(one)
    shown: list[Line] = []
    for line in _lines("", content, (), _Notes(by_pointer, missing)):
        if len(shown) == LINES_MAX:
            return [*shown, Line("…")]
        shown.append(line)
    return shown


@dataclass(frozen=True, slots=True)
class _Notes:
    by_pointer: Mapping[str, Difference]
    missing: Mapping[str, Sequence[Difference]]


def _lines(name: str, value: Any, place: tuple[str | int, ...], notes: _Notes) -> Iterator[Line]:
    """Yield a value's lines; `name` is what stands before it, a field's name or nothing."""
    indent = _INDENT * len(place)
    difference = notes.by_pointer.get(json_pointer(*place))
    kind, note = (difference.kind, difference.detail) if difference else (None, "")
    if not isinstance(value, dict | list) or (not value and not notes.missing.get(_at(place))):
        yield Line(f"{indent}{name}{_written(value)}", kind, note)
        return
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    yield Line(f"{indent}{name}{opening}", kind, note)
    if isinstance(value, dict):
        for field, inner in value.items():
            yield from _lines(f"{_written(field)}: ", inner, (*place, field), notes)
    else:
        for index, inner in enumerate(value):
            yield from _lines("", inner, (*place, index), notes)
    for one in notes.missing.get(_at(place), ()):
        field = one.pointer.rpartition("/")[2]
        if not (isinstance(value, dict) and field in value):
            yield Line(f'{indent}{_INDENT}"{field}": …', one.kind, one.detail)
    yield Line(f"{indent}{closing}")


def _at(place: tuple[str | int, ...]) -> str:
    return json_pointer(*place)


def _written(value: Any) -> str:
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}…"
