"""No module imports in a circle, not even by way of many others."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.house.source_tree import PACKAGES, python_files, relative, tree_of


def _name(path: Path) -> str:
    return relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def _modules() -> dict[str, Path]:
    return {_name(path): path for path in python_files(*PACKAGES)}


def _imports(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """What importing runs: neither what waits inside a function, nor what only types need."""
    for node in body:
        match node:
            case ast.Import() | ast.ImportFrom():
                yield node
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _imports(node.orelse)
            case ast.If() | ast.For() | ast.While():
                yield from _imports([*node.body, *node.orelse])
            case ast.With() | ast.ClassDef():
                yield from _imports(node.body)
            case ast.Try():
                yield from _imports([*node.body, *node.orelse, *node.finalbody])


def _imported(path: Path) -> set[str]:
    known, found = _modules(), set()
    for node in _imports(tree_of(path).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.module:
            # A name of a package is a module of it, or something that its __init__ holds.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return (found & known.keys()) - {_name(path)}


def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = {name: _imported(path) for name, path in _modules().items()}

    # Whatever imports nothing that is left is in no circle; what remains is.
    while free := {name for name, imports in waiting.items() if not imports & waiting.keys()}:
        waiting = {name: imports for name, imports in waiting.items() if name not in free}

    assert {name: sorted(imports & waiting.keys()) for name, imports in waiting.items()} == {}


def test_every_import_of_ours_names_a_module_that_exists() -> None:
    known = _modules()
    tops = {name.partition(".")[0] for name in known}
    missing = [
        f"{relative(path)}:{node.lineno} {node.module}"
        for path in python_files(*PACKAGES)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom)
        and node.module
        and node.module.partition(".")[0] in tops
        and node.module not in known
    ]

    # Most of them run only in their command, where --help would not notice.
    assert missing == []
