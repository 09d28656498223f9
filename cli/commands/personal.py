"""`ackledger users export` and `users erase`: one person's data, given out or made unreadable."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.failures import UsageError
from cli.invocation import settings_of
from cli.output import AsJson, print_json, print_line, say

if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from runtime.service.settings import DatabaseSettings

Who = Annotated[str, typer.Argument(help="The account's id, or the address that it uses.")]


def add_to(group: typer.Typer) -> None:
    """Add the commands to those about people's accounts."""
    group.command("export", short_help="Write all that is kept of a person.")(_export)
    group.command("erase", short_help="Make a person's data unreadable.")(_erase)


def _export(
    context: typer.Context,
    who: Who,
    output: Annotated[
        str, typer.Option(metavar="FILE", help="Written whole or not at all; - is standard output.")
    ] = "-",
) -> None:
    """Write one person's data as JSON: account, sessions, logins, wallets, transactions and more.

    One snapshot. Neither tokens nor the password's hash are in it.
    """
    import asyncio

    from cli.commands.export import opened
    from runtime.service.settings import DatabaseSettings

    settings = settings_of(context, DatabaseSettings)
    with opened(output) as file:
        counts = asyncio.run(_exported(settings, who, file))
    say("exported " + _listed(counts))


async def _exported(settings: "DatabaseSettings", who: str, file: "BinaryIO") -> "dict[str, int]":
    from cli.dependencies import database_connection
    from cli.personal.person import export_person

    async with database_connection(settings, name="users-export") as connection:
        return await export_person(connection, who, lambda text: file.write(text.encode()))


def _erase(
    context: typer.Context,
    who: Who,
    *,
    is_confirmed: Annotated[
        bool, typer.Option("--yes", help="Do not ask; it cannot be undone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete an account and make unreadable who it was: for good. The books stay as they are.

    Name, address, where logins came from, and the texts of what the person submitted. Again, it
    goes on where it was cut short.
    """
    import asyncio
    import sys

    from cli.actor import login_actor
    from runtime.service.settings import DatabaseSettings

    settings = settings_of(context, DatabaseSettings)
    if not is_confirmed:
        if not sys.stdin.isatty():
            raise UsageError("no terminal to ask whether it is meant; give --yes")
        typer.confirm(f"Erase {who}? It cannot be undone", abort=True, err=True)
    done = asyncio.run(_erased(settings, who, actor=login_actor()))
    if as_json:
        print_json(done)
        return
    print_line(f"erased {done.pop('id')}: {_listed(done)}")


async def _erased(settings: "DatabaseSettings", who: str, *, actor: str) -> "dict[str, Any]":
    from cli.dependencies import database_connection
    from cli.personal.person import erase_person

    async with database_connection(settings, name="users-erase") as connection:
        return await erase_person(connection, who, actor=actor)


def _listed(counts: "dict[str, int]") -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
