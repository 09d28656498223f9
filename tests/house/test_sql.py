"""SQL lives in .sql files, under names that say what they are for, and is used."""

import ast
import re
from pathlib import Path
from typing import Final

from tests.house.source_tree import (
    PACKAGES,
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


def test_every_named_query_is_used() -> None:
    used = set().union(*(_words_of(path) for path in python_files(*PACKAGES)))
    unused = [
        f"{relative(path)}: {block['name']}"
        for path in _query_files()
        for block in _BLOCK.finditer(path.read_text(encoding="utf-8"))
        if block["name"] not in used
    ]

    assert unused == []
