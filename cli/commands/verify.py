"""`ackledger verify`: the proof, from the tables alone, that the books balance."""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.failures import UsageError
from cli.invocation import settings_of
from cli.output import AsJson, console, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.service.settings import VerifySettings
    from verification.checks import VerificationReport
    from verification.verify import Progress, SealExpectations


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", short_help="Prove the books from the tables alone.")(_verify)


def _verify(
    context: typer.Context,
    seal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NUMBER:DIGEST",
            help="A seal that was written down: the chain must hold it. Give it repeatedly.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove the books from the tables alone; exit 1 with every finding when they do not balance."""
    import asyncio

    from runtime.service.settings import VerifySettings

    settings = settings_of(context, VerifySettings)
    report = asyncio.run(_report(settings, _expectations(settings, seal or [])))
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    raise typer.Exit(code=0 if report.clean else 1)


def _expectations(settings: "VerifySettings", written_down: "list[str]") -> "SealExpectations":
    """Return what the seals must be: those written down, also beside the keys, and signed."""
    from runtime.service.key_directory import SigningKeyError
    from verification.seal_keys import Anchor, SealKeys
    from verification.verify import SealExpectations

    try:
        anchors = [Anchor.of_text(text) for text in written_down]
    except ValueError as error:
        raise UsageError(f"--seal: {error}") from error
    keys = None if settings.seal_keys is None else SealKeys(settings.seal_keys)
    try:
        return SealExpectations.of(
            keys, unsealed_max_s=settings.verify_unsealed_max_s, written_down=anchors
        )
    except SigningKeyError as error:
        raise UsageError(f"ACKLEDGER_SEAL_KEYS: {error}") from error


async def _report(settings: "VerifySettings", seals: "SealExpectations") -> "VerificationReport":
    from cli.dependencies import database_connection
    from verification.verify import verify

    async with (
        database_connection(settings, name="verify") as connection,
        database_connection(settings, name="verify-seals") as beside,
    ):
        with _progress() as progress:
            return await verify(
                connection,
                beside=beside,
                pending_max_s=settings.verify_pending_max_s,
                seals=seals,
                progress=progress,
            )


@contextmanager
def _progress() -> "Iterator[Progress | None]":
    """Give what moves a bar on standard error; nothing where that is no terminal."""
    out = console(is_error=True)
    if not out.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("verifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=out,
        transient=True,
    )
    with bar:
        task = bar.add_task("verifying", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print(report: "VerificationReport") -> None:
    out = console()
    by_status = ", ".join(f"{count} {status}" for status, count in report.by_status.items())
    out.print(f"wallets       {report.wallets}")
    out.print(f"transactions  {report.transactions}{f'  ({by_status})' if by_status else ''}")
    out.print(f"entries       {report.entries}")
    out.print(f"seals         {_seals(report)}")
    if report.clean:
        out.print("clean: every check holds", style="bold green")
        return
    out.print(f"{report.findings_total} findings", style="bold red")
    for finding in report.to_json()["findings"]:
        out.print(f"  {finding['check']}  {finding['subject']}: {finding['detail']}")


def _seals(report: "VerificationReport") -> str:
    seals = report.seals
    if seals.latest is None:
        return "none"
    if not seals.are_signatures_checked:
        trust = "signatures not checked: ACKLEDGER_SEAL_KEYS is not set"
    else:
        trust = f"{seals.signed} signed"
    return f"{seals.number}  ({trust}; the last is {seals.latest})"
