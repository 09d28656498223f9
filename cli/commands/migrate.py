"""`ackledger migrate`: the database's tables and the broker's topology."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.invocation import settings_of
from cli.output import AsJson, print_json, print_line, say

if TYPE_CHECKING:
    from cli.migrating import Changes


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("migrate", short_help="Bring database and broker up to date.")(_migrate)


def _migrate(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 if something is missing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database and the broker to what this release needs. Safe to run again."""
    import asyncio

    from cli.migrating import MigrateSettings, bring_up_to_date, find_missing

    settings = settings_of(context, MigrateSettings)
    if check:
        missing = asyncio.run(find_missing(settings))
        _print(missing, verbs=("missing", "missing"), as_json=as_json)
        raise typer.Exit(code=1 if missing else 0)
    changes = asyncio.run(bring_up_to_date(settings, say))
    _print(changes, verbs=("applied", "declared"), as_json=as_json)


def _print(changes: "Changes", *, verbs: tuple[str, str], as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "current": not changes,
                f"{verbs[0]}_migrations": changes.migrations,
                f"{verbs[1]}_topology": changes.topology,
            }
        )
        return
    for version in changes.migrations:
        print_line(f"{verbs[0]}  migration {version}")
    for name in changes.topology:
        print_line(f"{verbs[1]}  {name}")
    if not changes:
        print_line("all is current: nothing to migrate, nothing to declare")
