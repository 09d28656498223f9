"""The project's own files and their syntax trees."""

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("ledger", "contracts", "runtime", "ingress", "processor", "console", "ops")

# What tools make, what git ignores, and what others wrote and is kept here as it came.
_FOREIGN: Final = frozenset({"__pycache__", "build", "dist", "node_modules", "vendor", "vendored"})


@cache
def project_files() -> tuple[Path, ...]:
    """Every file of the project, hidden ones at the top included; nothing that a tool made."""
    return tuple(sorted(_walk()))


def _walk() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not _is_foreign(name)]
        yield from (Path(folder) / name for name in files if not name.endswith(".pyc"))


def _is_foreign(folder: str) -> bool:
    is_hidden = folder.startswith(".") and folder not in {".ci", ".github"}
    return is_hidden or folder in _FOREIGN or folder.endswith(".egg-info")


def relative(path: Path) -> str:
    """Return a path as it is written in the project's documents."""
    return path.relative_to(ROOT).as_posix()


def python_files(*folders: str) -> list[Path]:
    """Return the Python files below these folders of the root, or all of them."""
    return [
        path
        for path in project_files()
        if path.suffix == ".py" and (not folders or relative(path).split("/")[0] in folders)
    ]


@cache
def tree_of(path: Path) -> ast.Module:
    """Return a Python file's syntax tree."""
    text, name = path.read_text(encoding="utf-8"), str(path)
    try:
        return ast.parse(text, filename=name)
    except SystemError:
        # CPython 3.11 miscounts its depth now and then, and counts anew the next time
        # (python/cpython#106905).
        return ast.parse(text, filename=name)


def strings_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string literal that is not a docstring."""
    docstrings = _docstrings(tree_of(path))
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Constant) or id(node) in docstrings:
            continue
        if isinstance(node.value, str):
            yield node.lineno, node.value


def _docstrings(tree: ast.Module) -> frozenset[int]:
    """A string that stands alone as a statement documents; it is never a value."""
    return frozenset(id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr))


def place(path: Path, line: int) -> str:
    """Return 'file:line', as editors open it."""
    return f"{relative(path)}:{line}"
