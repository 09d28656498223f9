"""`ackledger export`: the posted books, for programs and people outside."""

import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.failures import UsageError
from cli.invocation import settings_of
from cli.output import console, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from cli.export.exporting import Exported, ExportFormat, Progress
    from cli.export.reading import Span
    from runtime.service.settings import DatabaseSettings

_FORMATS: Final = "hledger|ledger|beancount|csv|jsonl"
_STANDARD_OUTPUT: Final = "-"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", short_help="Write the books for other programs.")(_export)


def _export(
    context: typer.Context,
    *,
    chosen: Annotated[
        str, typer.Option("--format", metavar=_FORMATS, help="Which program reads it.")
    ],
    first: Annotated[
        datetime | None,
        typer.Option(
            "--from", formats=["%Y-%m-%d"], help="The first day (UTC); balances are carried over."
        ),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", formats=["%Y-%m-%d"], help="The day after the last one (UTC)."),
    ] = None,
    currency: Annotated[
        str | None, typer.Option(metavar="CODE", help="Only wallets and legs of this currency.")
    ] = None,
    output: Annotated[
        str, typer.Option(metavar="FILE", help="Written whole or not at all; - is standard output.")
    ] = _STANDARD_OUTPUT,
) -> None:
    """Write what is posted, as plain-text accounting programs read it, or as CSV or JSON lines.

    One snapshot, in the order of posting; the same book gives the same text. FAILED and PENDING
    transactions are not in it, holds move no money and are not, either.
    """
    import asyncio

    from runtime.service.settings import DatabaseSettings

    wanted = _format(chosen)
    span = _span(first, end, currency)
    settings = settings_of(context, DatabaseSettings)
    with opened(output) as file:
        done = asyncio.run(_run(settings, wanted, span, file))
    say(f"exported {done.transactions:,} transactions of {done.wallets:,} wallets")


def _format(name: str) -> "ExportFormat":
    from cli.export.exporting import ExportFormat

    try:
        return ExportFormat(name)
    except ValueError:
        raise UsageError(f"--format {name}: expected one of {_FORMATS}") from None


def _span(first: datetime | None, end: datetime | None, currency: str | None) -> "Span":
    from cli.export.reading import Span

    if first is not None and end is not None and first >= end:
        raise UsageError(f"--from {first:%Y-%m-%d} is not before --to {end:%Y-%m-%d}")
    return Span(first and first.date(), end and end.date(), currency)


@contextmanager
def opened(output: str) -> "Iterator[BinaryIO]":
    """Give what to write to: a file that takes its name once it is whole."""
    if output == _STANDARD_OUTPUT:
        if sys.stdout.isatty():
            # Whole books with what clients wrote: neither is for a terminal.
            raise UsageError("standard output is a terminal: name a file with --output, or pipe it")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from cli.private_files import open_private

    target, draft = Path(output), Path(f"{output}.part")
    try:
        draft.unlink(missing_ok=True)
        with open_private(draft) as file:
            yield file
        draft.replace(target)
    except OSError as error:
        raise UsageError(f"--output {output}: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


async def _run(
    settings: "DatabaseSettings", chosen: "ExportFormat", span: "Span", file: "BinaryIO"
) -> "Exported":
    from cli.dependencies import database_connection
    from cli.export.exporting import export_book
    from contracts.money import AmountError

    async with (
        database_connection(settings, name="export") as connection,
        database_connection(settings, name="export-balances") as beside,
    ):
        with _progress() as progress:
            try:
                return await export_book(
                    *(connection, beside, chosen, span),
                    lambda text: file.write(text.encode()),
                    progress=progress,
                )
            except AmountError as error:
                raise UsageError(f"--currency {span.currency}: {error}") from error


@contextmanager
def _progress() -> "Iterator[Progress | None]":
    """Give what moves a bar on standard error; nothing where that is no terminal."""
    from cli.replay.progress import progress_bars

    bars = progress_bars(console(is_error=True))
    if bars.disable:
        yield None
        return
    with bars:
        bar = bars.add_task("exporting", total=None, count=0)
        yield lambda done, total: bars.update(bar, completed=done, total=total, count=done)
