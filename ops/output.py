"""Printing: data on standard output, words about it on standard error."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

if TYPE_CHECKING:
    from rich.console import Console

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(document: Any) -> None:
    """Print one JSON document, indented for people; programs do not mind."""
    import orjson

    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns. Nothing is cut to the terminal's width: ids are there to be copied."""
    shown = [columns, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    out = console()
    for number, row in enumerate(shown):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.print(line.rstrip(), style="" if number else "bold")


def printable(text: str) -> str:
    """Return a text without control characters: what clients sent must not steer a terminal."""
    return "".join(one if one.isprintable() or one == "\n" else _REPLACEMENT for one in text)


def say(sentence: str) -> None:
    """Tell the user something that is no data; a terminal that was closed stops nothing."""
    with suppress(OSError):
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()


def console(*, is_error: bool = False) -> "Console":
    """Return rich's console, which leaves colours out where nobody would see them."""
    from rich.console import Console

    return Console(stderr=is_error, markup=False, highlight=False, soft_wrap=True)


def quiet_logs() -> None:
    """Leave only errors of our logs, on standard error: a command speaks for itself."""
    from runtime.logs import configure_logging
    from runtime.settings import LogFormat, LogLevel, LogSettings

    settings = LogSettings(log_level=LogLevel.ERROR, log_format=LogFormat.CONSOLE)
    configure_logging(settings, service="command")
