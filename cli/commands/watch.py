"""`ackledger watch`: throughput, backlog, latency and the processes' states, live."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.failures import UsageError
from cli.invocation import invocation_of, settings_of
from cli.output import console, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from typing import TypeAlias

    from cli.watch.watch import Look
    from runtime.watching.reading import Reading, Snapshot

    Looks: TypeAlias = AbstractAsyncContextManager[Look]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("watch", short_help="Watch throughput, backlog and latency, live.")(_watch)


def _watch(
    context: typer.Context,
    *,
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]URL",
            help="A process's status port, of whatever machine; by default those that run here.",
        ),
    ] = None,
    database: Annotated[
        bool,
        typer.Option("--database", help="Look at the database (DATABASE_URL), not at processes."),
    ] = False,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one sample and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON each time.")
    ] = False,
) -> None:
    """Show what happens each second and how it went, until Ctrl-C.

    Rates are of accepted, completed and failed transactions; latencies are those of single
    submissions, of committed batches, and from acceptance to the end. Over the database the rates
    are PostgreSQL's own statistics, and latencies are not known. Exit 3 when nobody answers.
    """
    import asyncio

    looks = _looks(context, status or [], is_database=database)
    with suppress(KeyboardInterrupt):
        if once or as_json:
            asyncio.run(_print(looks, interval, once=once, as_json=as_json))
        else:
            asyncio.run(_show(looks, interval))


async def _print(looks: "Looks", interval_s: float, *, once: bool, as_json: bool) -> None:
    from cli.watch.screen import screen_of
    from cli.watch.watch import readings

    async with looks as look:
        async for snapshot, reading in readings(look, interval_s=interval_s):
            if as_json:
                print_json(_json(snapshot, reading), on_one_line=True)
            else:
                console().print(screen_of(snapshot, reading))
            if once:
                return


async def _show(looks: "Looks", interval_s: float) -> None:
    from rich.live import Live
    from rich.text import Text

    from cli.watch.screen import History, screen_of
    from cli.watch.watch import readings

    history = History()
    async with looks as look:
        with Live(Text("looking …"), console=console(), auto_refresh=False) as live:
            async for snapshot, reading in readings(look, interval_s=interval_s):
                history.add(reading)
                live.update(screen_of(snapshot, reading, history), refresh=True)


def _json(snapshot: "Snapshot", reading: "Reading") -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        **reading.to_json(),
        "processes": {
            name: {
                "status": look.status,
                "dependencies": dict(look.dependencies),
                "trouble": look.trouble or None,
            }
            for name, look in snapshot.processes.items()
        },
    }


def _looks(context: typer.Context, options: list[str], *, is_database: bool) -> "Looks":
    from cli.watch.watch import database_looks, status_looks
    from runtime.service.settings import DatabaseSettings

    if not is_database:
        return status_looks(_urls(context, options))
    if options:
        raise UsageError("--database and --status exclude each other")
    return database_looks(settings_of(context, DatabaseSettings))


def _urls(context: typer.Context, options: list[str]) -> "Callable[[], Mapping[str, str]]":
    from cli.running_state import RunningState

    directory = invocation_of(context).directory
    given = dict(_named(option) for option in options)
    if given:
        return lambda: given
    if not RunningState.load(directory).status_urls:
        raise UsageError(
            "no system runs here (start one: ackledger run); or name its processes: "
            "--status ingress=http://127.0.0.1:9101"
        )
    return lambda: RunningState.load(directory).status_urls


def _named(option: str) -> tuple[str, str]:
    from runtime.service.settings import named_url

    try:
        return named_url(option)
    except ValueError as error:
        raise UsageError(f"--status {option}: {error}") from None
