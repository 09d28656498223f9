"""Functions and files stay short, and names say something."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.house.source_tree import place, python_files, relative, tree_of

FUNCTION_LINES_MAX: Final = 50
MODULE_LINES_MAX: Final = 600

_EMPTY_WORDS: Final = re.compile(r"(^|_)(manager|helper|util|common|data|info)s?$")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _long_functions() -> dict[str, int]:
    return {
        f"{relative(path)}:{function.name}": _lines(function)
        for path in python_files()
        for function in _functions(path)
        if _lines(function) > FUNCTION_LINES_MAX
    }


def test_no_function_is_longer_than_fifty_lines() -> None:
    assert _long_functions() == {}


def test_no_module_is_longer_than_six_hundred_lines() -> None:
    lengths = {
        relative(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files()
    }

    assert {name: count for name, count in lengths.items() if count > MODULE_LINES_MAX} == {}


def test_no_module_and_no_class_has_an_empty_name() -> None:
    modules = [relative(path) for path in python_files() if _EMPTY_WORDS.search(path.stem)]
    classes = [
        f"{place(path, node.lineno)} {node.name}"
        for path in python_files()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef)
        and _EMPTY_WORDS.search(_CAMEL.sub("_", node.name).lower())
    ]

    assert modules + classes == []
