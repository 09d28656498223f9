"""Tests await a signal or a bounded `eventually`; they never sleep."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.house.source_tree import place, python_files, relative, tree_of

# The one place that may: it polls, with a bound.
_POLLING_FILE: Final = "tests/support.py"
_POLLING_FUNCTION: Final = "eventually"
_MODULES: Final = frozenset({"time", "asyncio"})


def _sleeps(tree: ast.AST) -> Iterator[ast.Call]:
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in _MODULES
        for alias in node.names
        if alias.name == "sleep"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_sleep(node, imported) and not _gives_way(node):
            yield node


def _is_sleep(call: ast.Call, imported: set[str]) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Name(id=module), attr="sleep"):
            return module in _MODULES
        case ast.Name(id=name):
            return name in imported
    return False


def _gives_way(call: ast.Call) -> bool:
    """`sleep(0)` waits for nothing: it lets the other tasks run."""
    return [ast.dump(argument) for argument in call.args] == [ast.dump(ast.Constant(0))]


def _allowed_lines(path: Path) -> set[int]:
    if relative(path) != _POLLING_FILE:
        return set()
    return {
        line
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith(_POLLING_FUNCTION)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def test_no_test_sleeps() -> None:
    found = [
        place(path, call.lineno)
        for path in python_files("tests")
        for call in _sleeps(tree_of(path))
        if call.lineno not in _allowed_lines(path)
    ]

    assert found == []
