"""Commands print through cli/output.py alone, where everything is escaped."""

import ast
from pathlib import Path
from typing import Final

from tests.house.source_tree import is_program, place, python_files, relative, tree_of

# Calls that write to the terminal as it comes: 'module:what' -> why it is no danger.
EXCEPTIONS: Final = {
    "cli/output.py": "the place itself",
    "tools/documents/__main__.py": "writes documents of ours, for us",
    "cli/command_line.py": "the version, and failures, whose text is escaped",
    "tools/commands/run.py": "a command to copy, of our own address and key",
}
_RAW: Final = {"print", "typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write"}


def _raw_calls(path: Path) -> list[str]:
    return [
        f"{place(path, node.lineno)} {ast.unparse(node.func)}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _RAW
    ]


def _paths() -> dict[str, Path]:
    """The files of the command and of the tools, but not programs that developers run by hand."""
    return {
        relative(path): path
        for path in python_files("cli", "tools")
        if path.name == "__main__.py" or not is_program(path)
    }


def test_no_command_writes_to_the_terminal_past_the_escaping() -> None:
    found = [
        call
        for name, path in _paths().items()
        if name not in EXCEPTIONS
        for call in _raw_calls(path)
    ]

    assert found == []


def test_every_exception_is_still_needed() -> None:
    paths = _paths()

    assert [name for name in EXCEPTIONS if not _raw_calls(paths[name])] == []


def test_every_console_is_the_one_that_escapes() -> None:
    made = [
        place(path, node.lineno)
        for name, path in _paths().items()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Console"
    ]

    assert made == []
