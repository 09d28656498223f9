"""SQL lives in .sql files, under names that say what they are for, and is used."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.house.source_tree import (
    PACKAGES,
    is_rival,
    place,
    project_files,
    python_files,
    relative,
    strings_of,
    tree_of,
)

# Words that begin a statement. Prose begins with a capital and a small letter, and is left alone.
_STATEMENT: Final = re.compile(
    r"\s*(SELECT|INSERT\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE|CREATE|ALTER|DROP|WITH\s+\w+\s+AS)\s"
    r"|\s*(select\s.*\sfrom|select\s+[\d']|insert\s+into|update\s+\w+\s+set|delete\s+from)\b",
    re.DOTALL,
)
# File -> why it may load another package's statement.
BORROWERS: Final = {
    "tools/bench/laying.py": "records a backlog by the statement that the ingress records with",
}
_BLOCK: Final = re.compile(r"^-- name: (?P<name>\w+)\n(?P<next>.*)$", re.MULTILINE)


def _query_files() -> list[Path]:
    return [path for path in project_files() if path.name.endswith("queries.sql")]


def _words_of(path: Path) -> set[str]:
    """Every string and attribute of a Python file: the ways in which a query is named."""
    attributes = {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}
    return attributes | {text for _, text in strings_of(path)}


def test_no_python_file_holds_sql() -> None:
    """Of the product; a test's SQL stands beside the claim that it checks."""
    found = [
        f"{place(path, line)} {text.strip()[:40]}"
        for path in python_files(*PACKAGES)
        if not is_rival(path)
        for line, text in strings_of(path)
        if _STATEMENT.match(text)
    ]

    assert found == []


def test_every_named_query_says_what_it_is_for() -> None:
    silent = [
        f"{relative(path)}: {block['name']}"
        for path in _query_files()
        for block in _BLOCK.finditer(path.read_text(encoding="utf-8"))
        if not re.match(r"-- \w+", block["next"])
    ]

    assert silent == []


def test_every_query_file_begins_with_a_name() -> None:
    nameless = [
        relative(path)
        for path in _query_files()
        if not path.read_text(encoding="utf-8").startswith("-- name: ")
    ]

    assert nameless == []


def test_queries_are_loaded_only_by_their_package() -> None:
    """Or by one below it, or by the one that holds it: whoever else needs one calls a function."""
    foreign = {
        relative(path): package
        for path in python_files(*PACKAGES)
        for package in _loadings(path)
        if not _may_load(path, package)
    }

    assert foreign.keys() == BORROWERS.keys()


def test_every_named_query_is_used_by_its_package() -> None:
    unused = []
    for file in _query_files():
        package = relative(file.parent).replace("/", ".")
        used = set().union(
            *(_words_of(path) for path in python_files(*PACKAGES) if _may_load(path, package))
        )
        unused += [
            f"{relative(file)}: {block['name']}"
            for block in _BLOCK.finditer(file.read_text(encoding="utf-8"))
            if block["name"] not in used
        ]

    assert unused == []


def _loadings(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.Call(func=ast.Name(id="load_queries"), args=[ast.Constant(value=str(name))]):
                yield name


def _may_load(path: Path, package: str) -> bool:
    own = relative(path.parent).replace("/", ".")
    return own == package.rpartition(".")[0] or f"{own}.".startswith(f"{package}.")


_LOCK: Final = re.compile(r"\bpg_advisory_(?:xact_)?lock\(")
_LOCK_ALONE: Final = re.compile(r"SELECT pg_advisory_(?:xact_)?lock\([^;]*\);\s*")


def test_a_lock_is_a_statement_of_its_own() -> None:
    """A statement reads what there was before it waited: what a lock guards is read in the next."""
    queries = [
        (f"{relative(path)}: {name}", text)
        for path in _query_files()
        for name, text in _queries_of(path)
        if _LOCK.search(text)
    ]

    assert queries
    assert [name for name, text in queries if not _LOCK_ALONE.fullmatch(text)] == []


def _queries_of(path: Path) -> Iterator[tuple[str, str]]:
    for block in path.read_text(encoding="utf-8").split("-- name: ")[1:]:
        name, _, rest = block.partition("\n")
        lines = [line for line in rest.split("\n") if not line.startswith("--")]
        yield name, "\n".join(lines).strip()
