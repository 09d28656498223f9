"""The table that follows one transaction names functions that exist and call each other."""

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import reduce
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from tests.house.source_tree import ROOT

_ROW: Final = re.compile(r"^\| (\d+) \| `([\w.]+):([\w.]+)` \| ([^|]+) \|", re.MULTILINE)
_STOPS_MAX: Final = 12


class _Stop(NamedTuple):
    module: ModuleType
    name: str
    called_by: str

    @property
    def function(self) -> str:
        return self.name.rsplit(".", 1)[-1]


def _stops() -> Mapping[str, _Stop]:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return {
        number: _Stop(import_module(module), name, called_by.strip())
        for number, module, name, called_by in _ROW.findall(text)
    }


def _names_in(function: ast.AST) -> set[str]:
    """Return what a function names, and so may call or hand on."""
    return {
        one.attr if isinstance(one, ast.Attribute) else one.id
        for one in ast.walk(function)
        if isinstance(one, ast.Attribute | ast.Name)
    }


def _reached_from(stop: _Stop) -> set[str]:
    """Return the names that a function reaches through functions of its own module."""
    tree = ast.parse(Path(inspect.getfile(stop.module)).read_text(encoding="utf-8"))
    functions: dict[str, set[str]] = defaultdict(set)
    for one in ast.walk(tree):
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            functions[one.name] |= _names_in(one)
    reached: set[str] = set()
    asked = [stop.function]
    while asked:
        new = functions[asked.pop()] - reached
        reached |= new
        asked.extend(new)
    return reached


def test_every_stop_exists_and_there_are_few() -> None:
    stops = _stops()
    found: list[Any] = [
        reduce(getattr, stop.name.split("."), stop.module) for stop in stops.values()
    ]

    assert 1 < len(stops) <= _STOPS_MAX
    assert all(map(callable, found))


def test_every_stop_is_called_by_the_one_that_is_named() -> None:
    stops = _stops()
    missing = [
        number
        for number, stop in stops.items()
        if stop.called_by in stops and stop.function not in _reached_from(stops[stop.called_by])
    ]

    assert sum(stop.called_by in stops for stop in stops.values()) > len(stops) / 2
    assert missing == []
