"""`ackledger roles`: a role of PostgreSQL for each process, with the least that it needs."""

from typing import TYPE_CHECKING

import typer

from cli.invocation import settings_of
from cli.output import AsJson, print_json, print_line, say

if TYPE_CHECKING:
    from runtime.postgres.roles import Applied
    from runtime.service.settings import DatabaseSettings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Make and grant the processes' database roles.", no_args_is_help=True)
    group.callback()(_group)
    group.command("apply")(_apply)
    app.add_typer(group, name="roles")


def _group() -> None:
    """Make and grant the processes' database roles."""


def _apply(context: typer.Context, as_json: AsJson = False) -> None:
    """Make the roles that are missing, and give each exactly what its process needs.

    Run it as the tables' owner; `migrate` does the same once there are roles. Then grant each role
    to the login of its process.
    """
    import asyncio

    from runtime.service.settings import DatabaseSettings

    applied = asyncio.run(_applied(settings_of(context, DatabaseSettings)))
    if as_json:
        print_json(
            {
                "created": applied.created,
                "grants": applied.granted,
                "not_permitted": applied.not_permitted,
            }
        )
        return
    for role in applied.created:
        print_line(f"created  {role}")
    print_line(f"granted  {applied.granted} privileges")
    for statement in applied.not_permitted:
        say(f"this login may not do it; have a superuser run: {statement};")


async def _applied(settings: "DatabaseSettings") -> "Applied":
    from cli.actor import login_actor
    from cli.dependencies import database_connection
    from cli.migrating import apply_database_roles
    from runtime.postgres.audit import Trail, note_act

    async with database_connection(settings, name="roles") as connection:
        applied = await apply_database_roles(connection)
        await note_act(
            connection,
            Trail(login_actor()),
            action="roles.applied",
            subject="database",
            detail={"created": applied.created, "grants": applied.granted},
        )
    return applied
