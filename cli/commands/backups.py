"""`ackledger backup` and `ackledger restore`: PostgreSQL in a folder, and back to a moment."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cli.failures import UsageError
from cli.invocation import on_database, settings_of
from cli.output import AsJson, console, print_json, print_line, print_table, say

if TYPE_CHECKING:
    from cli.backups.lost import LostList
    from cli.dependencies import Connection


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup", short_help="Back PostgreSQL up: a base now, or all WAL as it comes.")(
        _backup
    )
    app.command("restore", short_help="Make a data directory as of a moment.")(_restore)


def _backup(
    context: typer.Context,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", help="Take WAL as it is written, until Ctrl-C.")
    ] = False,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Remove all but so many of the newest bases.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the bases and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy the data directory of a running server into ACKLEDGER_BACKUP_DIRECTORY.

    Keep `backup --follow` running beside the server: what it has taken can be restored, to any
    moment since the first base. Without it only the bases themselves can.
    """
    from cli.backups.back_ups import Backups
    from cli.backups.following import follow as follow_wal
    from cli.backups.server import place_of
    from runtime.service.settings import BackupSettings

    settings = settings_of(context, BackupSettings)
    backups = Backups(settings)
    if follow:
        say(f"takes the WAL of {place_of(settings)} into {settings.backup_directory}")
        asyncio.run(follow_wal(backups))
        return
    if not list_:
        base = backups.take(is_shown=console(is_error=True).is_terminal)
        say(f"took {base.octets:,} bytes of {place_of(settings)} into {base.path}")
        for gone in backups.forget(keep) if keep is not None else ():
            say(f"removed {gone.path}")
    bases = backups.bases()
    if as_json:
        print_json({"items": [one.to_json() for one in bases]})
    elif list_:
        rows = [
            (
                str(one.path),
                one.ended_at.isoformat(),
                str(one.line.timeline),
                one.server_version,
                f"{one.octets:,}",
            )
            for one in bases
        ]
        print_table(("base", "can be restored to, from", "timeline", "server", "bytes"), rows)
    else:
        print_line(str(bases[-1].path))


def _restore(
    context: typer.Context,
    *,
    to: Annotated[str, typer.Option(help="A moment such as 2026-01-31T12:00:00Z, or `latest`.")],
    into: Annotated[
        Path | None, typer.Option(help="The data directory to make; it must be empty.")
    ] = None,
    lost: Annotated[
        bool,
        typer.Option(
            "--lost",
            help="After the start: list what had an event since, and is not in the books.",
        ),
    ] = False,
    after: Annotated[
        int | None,
        typer.Option(min=0, help="With --lost: go on behind where the last list said it ended."),
    ] = None,
    timeline: Annotated[
        int | None,
        typer.Option(min=1, help="Recover along this timeline instead of the newest one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a data directory that recovers to a moment when PostgreSQL is started on it.

    The server's own settings (ports, memory) are those of the base. Afterwards: `migrate`,
    `verify`, and `restore --to ... --lost` for what upstream systems have to send again.
    """
    if lost:
        _list_lost(context, to, after=after, as_json=as_json)
    if after is not None:
        raise UsageError("--after goes on with a list of --lost")
    if into is None:
        raise UsageError("--into is missing: name the data directory to make")
    _make_directory(context, to, into, timeline, as_json=as_json)


def _make_directory(
    context: typer.Context, to: str, into: Path, timeline: int | None, *, as_json: bool
) -> None:
    from cli.backups.back_ups import Backups
    from cli.backups.restoring import moment_of, restore
    from runtime.service.settings import BackupSettings

    moment = moment_of(to)
    restored = restore(Backups(settings_of(context, BackupSettings)), moment, into, timeline)
    base = restored.base
    if restored.gap is not None:
        say(restored.gap)
    if as_json:
        made = {"into": str(into), "to": to, "timeline": restored.timeline, "base": base.to_json()}
        print_json(made)
        return
    say(f"made {into} of the base of {base.ended_at.isoformat()}")
    say(f"it recovers to {to} along timeline {restored.timeline}")
    say(f"start PostgreSQL {base.server_version} on it, and run: ackledger verify")


def _list_lost(context: typer.Context, to: str, *, after: int | None, as_json: bool) -> NoReturn:
    from cli.backups.lost import lost_transactions
    from cli.backups.restoring import moment_of
    from runtime.service.settings import BrokerSettings

    since = moment_of(to)
    if since is None:
        raise UsageError("--lost needs the moment that was restored to")
    broker = settings_of(context, BrokerSettings)

    async def look(connection: "Connection") -> "LostList":
        return await lost_transactions(broker, connection, since, after=after)

    found = on_database(context, "restore", look)
    if as_json:
        print_json({"items": [one.to_json() for one in found.items], "after": found.after})
    else:
        print_table(
            ("transaction", "submitter", "key", "event", "occurred at"),
            [tuple(one.to_json().values()) for one in found.items],
        )
    if found.after is not None:
        say(f"there may be more: list it with --after {found.after}")
    raise typer.Exit(code=1 if found.items or found.after is not None else 0)
