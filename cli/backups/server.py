"""The server that is backed up: what it says of itself."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from cli.backups.programs import Programs
from cli.backups.timelines import FIRST_TIMELINE
from cli.dependencies import address_of, unreachable
from cli.failures import RefusedError
from runtime.postgres import pool as database
from runtime.postgres.queries import load_queries
from runtime.service.settings import BackupSettings

_REFUSED: Final[tuple[type[BaseException], ...]] = (
    *database.UNREACHABLE,
    asyncpg.InvalidAuthorizationSpecificationError,
)

_DENIED: Final = (asyncpg.InsufficientPrivilegeError, asyncpg.ConfigurationLimitExceededError)
"""Without the attribute REPLICATION, or with too few slots (`max_replication_slots`)."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server was at a moment of its own clock."""

    moment: datetime
    version: str
    system: int
    """Its system identifier: `initdb` gives it, and a restore keeps it."""
    segment_size: int
    timeline: int | None
    """None while it recovers, or stands by."""


async def ask_server(settings: BackupSettings) -> Server:
    """Return what the server is now; raises UnreachableError."""
    row = await _ask(settings, "read_server")
    if row is None:
        raise LookupError("a server gives one row about itself")
    return Server(
        row["moment"],
        row["version"],
        row["system_identifier"],
        row["segment_size"],
        row["timeline"],
    )


async def make_slot(settings: BackupSettings, name: str) -> None:
    """Have the server keep WAL from now on, if it does not; `pg_receivewal` would do so later."""
    await _ask(settings, "make_slot", name)


async def drop_slot(settings: BackupSettings, name: str) -> None:
    """Have the server keep no WAL for a slot, unless somebody is connected to it."""
    await _ask(settings, "drop_slot", name)


async def ask_slot(settings: BackupSettings, name: str) -> int | None:
    """Return from where the server keeps WAL for a slot; None where it keeps none."""
    row = await _ask(settings, "read_slot", name)
    position: int | None = row["restarts_at"] if row is not None else None
    return position


def history_of(programs: Programs, timeline: int) -> str:
    """Return the history file of the server's timeline, which is empty for the first one."""
    if timeline == FIRST_TIMELINE:
        return ""
    said = programs.run(
        "psql",
        *("--no-psqlrc", "--tuples-only", "--no-align", "--dbname=replication=true"),
        f"--command=TIMELINE_HISTORY {timeline}",
    )
    return said.partition("|")[2]


def place_of(settings: BackupSettings) -> str:
    """Return the server that is backed up, as it may be shown."""
    return address_of(settings.backup_database_url)


async def _ask(settings: BackupSettings, query: str, *arguments: object) -> asyncpg.Record | None:
    url = settings.backup_database_url
    try:
        connection = await database.connect(url, name="backup")
        try:
            return await connection.fetchrow(load_queries("cli")[query], *arguments)
        finally:
            await connection.close()
    except _REFUSED as error:
        raise unreachable("PostgreSQL", url, error) from error
    except _DENIED as error:
        raise RefusedError(f"{address_of(url)}: {error}") from error
