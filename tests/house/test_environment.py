"""Only a composition root reads the environment."""

import ast
from typing import Final

from tests.house.source_tree import (
    PACKAGES,
    is_program,
    is_rival,
    place,
    python_files,
    relative,
    tree_of,
)

# File -> why it may read the environment although it is no program.
READERS: Final = {
    "runtime/service/settings.py": "turns the environment into checked settings",
    "tools/proving.py": "hands the path of programs to what the long proofs start",
}
_NAMES: Final = frozenset({"environ", "environb", "getenv", "putenv"})


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id == "os" and node.attr in _NAMES
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name in _NAMES for alias in node.names)
    return False


def test_only_programs_and_the_settings_read_the_environment() -> None:
    found = [
        place(path, getattr(node, "lineno", 0))
        for path in python_files(*PACKAGES)
        if not is_program(path) and not is_rival(path) and relative(path) not in READERS
        for node in ast.walk(tree_of(path))
        if _reads_environment(node)
    ]

    assert found == []
