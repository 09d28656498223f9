"""Migrations: numbered plain SQL files, each applied once, by one process at a time.

The files have dbmate's form: everything after `-- migrate:up`; `-- migrate:up transaction:false`
for statements that PostgreSQL refuses inside a database transaction.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

import asyncpg

from runtime.queries import load_queries

# Any number, the same for every process of Ackledger: 'ackl' in ASCII.
LOCK_KEY: Final = 0x61636B6C
_HEADER: Final = re.compile(r"\A-- migrate:up(?P<alone> transaction:false)?\n")


class MigrationError(Exception):
    """The database's history and the files do not fit; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name is its version."""

    version: str
    statements: str
    checksum: str
    in_transaction: bool


def load_migrations() -> list[Migration]:
    """Return every migration in order; raises MigrationError for a file without its header."""
    files = sorted(
        (file for file in resources.files("migrations").iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    return [_parse(file.name, file.read_text()) for file in files]


def _parse(name: str, text: str) -> Migration:
    header = _HEADER.match(text)
    if header is None:
        raise MigrationError(f"{name} does not begin with '-- migrate:up'")
    return Migration(
        version=name.removesuffix(".sql"),
        statements=text[header.end() :],
        checksum=hashlib.sha256(text.encode()).hexdigest(),
        in_transaction=header["alone"] is None,
    )


async def migrate(
    connection: "asyncpg.Connection[asyncpg.Record]", migrations: Sequence[Migration]
) -> list[Migration]:
    """Apply what is missing and return it; waits while another process migrates.

    Raises MigrationError when an applied file was changed since.
    """
    sql = load_queries("runtime")
    await connection.execute(sql["lock_migrations"], LOCK_KEY)
    try:
        await connection.execute(sql["create_schema_migrations"])
        pending = await _pending(connection, sql, migrations)
        for migration in pending:
            await _apply(connection, sql, migration)
    finally:
        await connection.execute(sql["unlock_migrations"], LOCK_KEY)
    return pending


async def missing_migrations(
    connection: "asyncpg.Connection[asyncpg.Record]", migrations: Sequence[Migration]
) -> list[Migration]:
    """Return what `migrate` would apply, changing nothing."""
    sql = load_queries("runtime")
    if not await connection.fetchval(sql["has_schema_migrations"]):
        return list(migrations)
    return await _pending(connection, sql, migrations)


async def _pending(
    connection: "asyncpg.Connection[asyncpg.Record]",
    sql: dict[str, str],
    migrations: Sequence[Migration],
) -> list[Migration]:
    applied = {
        row["version"]: row["checksum"] for row in await connection.fetch(sql["read_applied"])
    }
    known = {migration.version: migration for migration in migrations}
    for version, checksum in applied.items():
        # An unknown version is a newer release's, applied ahead of a rolling upgrade: no fault.
        if version in known and known[version].checksum != checksum:
            raise MigrationError(
                f"migration {version} was changed after it was applied; "
                "restore the file and write a new migration for the change"
            )
    return [migration for migration in migrations if migration.version not in applied]


async def _apply(
    connection: "asyncpg.Connection[asyncpg.Record]", sql: dict[str, str], migration: Migration
) -> None:
    arguments = (migration.version, migration.checksum)
    if not migration.in_transaction:
        await connection.execute(migration.statements)
        await connection.execute(sql["insert_applied"], *arguments)
        return
    async with connection.transaction():
        # Never wait long for a lock in front of live traffic: fail, and be run again.
        await connection.execute(sql["bound_migration_locks"])
        await connection.execute(migration.statements)
        await connection.execute(sql["insert_applied"], *arguments)
