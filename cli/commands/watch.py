"""`ackledger watch`: throughput, backlog, latency and the processes' states, live."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.failures import UsageError
from cli.invocation import invocation_of
from cli.output import console, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cli.watch.reading import Reading
    from cli.watch.snapshot import Snapshot


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("watch", short_help="Watch throughput, backlog and latency, live.")(_watch)


def _watch(
    context: typer.Context,
    *,
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=URL", help="A process's status port; by default those that run here."
        ),
    ] = None,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one sample and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON each time.")
    ] = False,
) -> None:
    """Show what happens each second, until Ctrl-C.

    Rates are of accepted, completed and failed transactions; latencies are those of single
    submissions and of committed batches. Exit 3 when no process answers.
    """
    import asyncio

    urls = _urls(context, status or [])
    with suppress(KeyboardInterrupt):
        if once or as_json:
            asyncio.run(_print(urls, interval, once=once, as_json=as_json))
        else:
            asyncio.run(_show(urls, interval))


async def _print(
    urls: "Callable[[], Mapping[str, str]]", interval_s: float, *, once: bool, as_json: bool
) -> None:
    from cli.watch.screen import screen_of
    from cli.watch.watch import readings

    async for snapshot, reading in readings(urls, interval_s=interval_s):
        if as_json:
            print_json(_json(snapshot, reading), on_one_line=True)
        else:
            console().print(screen_of(snapshot, reading))
        if once:
            return


async def _show(urls: "Callable[[], Mapping[str, str]]", interval_s: float) -> None:
    from rich.live import Live
    from rich.text import Text

    from cli.watch.screen import screen_of
    from cli.watch.watch import readings

    with Live(Text("looking …"), console=console(), auto_refresh=False) as live:
        async for snapshot, reading in readings(urls, interval_s=interval_s):
            live.update(screen_of(snapshot, reading), refresh=True)


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
    name, equals, url = option.partition("=")
    if not equals or not name or not url.startswith(("http://", "https://")):
        raise UsageError(f"--status {option}: expected NAME=URL, as ingress=http://127.0.0.1:9101")
    return name, url.rstrip("/")
