"""Printing: data on standard output, words about it on standard error.

Everything that a command prints goes through here, and is escaped here: what clients wrote must not
steer an operator's terminal.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from cli.escaping import json_safe, printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "AsJson",
    "console",
    "json_of",
    "print_json",
    "print_line",
    "print_table",
    "printable",
    "quiet_logs",
    "say",
]

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(document: Any, *, on_one_line: bool = False) -> None:
    """Print one JSON document, indented for people unless it is to be `on_one_line`."""
    sys.stdout.write(json_of(document, on_one_line=on_one_line) + "\n")
    sys.stdout.flush()


def json_of(document: Any, *, on_one_line: bool = False) -> str:
    """Return JSON that is safe on a terminal, whatever the document's strings hold."""
    import orjson

    try:
        text = orjson.dumps(document, option=None if on_one_line else orjson.OPT_INDENT_2).decode()
    except orjson.JSONEncodeError:
        # Half of a surrogate pair, or nested more deeply than orjson goes.
        import json

        text = json.dumps(
            document, indent=None if on_one_line else 2, ensure_ascii=False, default=str
        )
    return json_safe(text)


def print_line(text: str) -> None:
    """Print one line of data as it is, what is not visible escaped."""
    sys.stdout.write(f"{printable(text)}\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns. Nothing is cut to the terminal's width: ids are there to be copied."""
    shown = [columns, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    out = console()
    for number, row in enumerate(shown):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.print(line.rstrip(), style="" if number else "bold")


def say(sentence: str) -> None:
    """Tell the user something that is no data; a terminal that was closed stops nothing."""
    with suppress(OSError):
        sys.stderr.write(f"{printable(sentence)}\n")
        sys.stderr.flush()


def console(*, is_error: bool = False) -> "Console":
    """Return rich's console, which escapes what it prints and colours only what somebody sees."""
    from cli.safe_console import SafeConsole

    return SafeConsole(stderr=is_error)


def quiet_logs() -> None:
    """Leave only errors of our logs, on standard error: a command speaks for itself."""
    from runtime.service.logs import configure_logging
    from runtime.service.settings import LogFormat, LogLevel, LogSettings

    settings = LogSettings(log_level=LogLevel.ERROR, log_format=LogFormat.CONSOLE)
    configure_logging(settings, service="command")
