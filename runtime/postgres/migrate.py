"""Migrations: numbered plain SQL files, each applied once, by one process at a time.

The files have dbmate's form: everything after `-- migrate:up`; `-- migrate:up transaction:false`
for a statement that PostgreSQL refuses inside a database transaction, such as CREATE INDEX
CONCURRENTLY: one statement a file, since PostgreSQL makes several into one database transaction.

Traffic goes on meanwhile. Whoever waits for a table behind a waiting migration waits no longer than
a second: a try that has not got its locks, or not done its work, by then is undone.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

import asyncpg

from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries
from runtime.service.periodic import Backoff
from runtime.service.status_server import Check, DependencyState

# Any number, the same for every process of Ackledger: 'ackl' in ASCII.
LOCK_KEY: Final = 0x61636B6C
LOCK_WAIT_S: Final = 0.5
"""How long one try stands in a table's line, and all traffic behind it."""
HOLD_MAX_S: Final = 1.0
"""How long one try may take in all: the longest that traffic stands still."""
OTHER_MIGRATOR_MAX_S: Final = 600.0
"""How long to wait for another process that migrates: as long as a large index takes to build."""
CHECK_S: Final = 1.0
"""For a process's readiness to be looked up."""
_NO_LOCK: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
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


Say = Callable[[str], None]
"""Called with a sentence whenever a wait begins."""


def load_migrations(folder: Traversable | None = None) -> list[Migration]:
    """Return every migration in order; raises MigrationError for a file without its header."""
    folder = folder or resources.files("migrations")
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")),
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
    connection: "asyncpg.Connection[asyncpg.Record]",
    migrations: Sequence[Migration],
    *,
    tries: int = 1,
    say: Say | None = None,
) -> list[Migration]:
    """Apply what is missing and return it; waits while another process migrates.

    Raises MigrationError when an applied file was changed since, and when one could not have its
    locks in so many tries; those before it stay applied.
    """
    sql = load_queries("runtime.postgres")
    applying = _Applying(connection, sql, tries, say or _say_nothing)
    await applying.take_turn()
    try:
        await connection.execute(sql["create_schema_migrations"])
        applied = await _applied(connection, sql)
        # In a database that was never migrated there is no traffic to be held up.
        hold_max_s = HOLD_MAX_S if applied else None
        pending = _pending(applied, migrations)
        for migration in pending:
            await applying.apply(migration, hold_max_s)
    finally:
        await connection.execute(sql["unlock_migrations"], LOCK_KEY)
    return pending


async def missing_migrations(
    connection: "asyncpg.Connection[asyncpg.Record]", migrations: Sequence[Migration]
) -> list[Migration]:
    """Return what `migrate` would apply, changing nothing."""
    sql = load_queries("runtime.postgres")
    if not await connection.fetchval(sql["has_schema_migrations"]):
        return list(migrations)
    return _pending(await _applied(connection, sql), migrations)


async def _applied(
    connection: "asyncpg.Connection[asyncpg.Record]", sql: Mapping[str, str]
) -> dict[str, str]:
    rows = await connection.fetch(sql["read_applied"])
    return {row["version"]: row["checksum"] for row in rows}


def _pending(applied: dict[str, str], migrations: Sequence[Migration]) -> list[Migration]:
    known = {migration.version: migration for migration in migrations}
    for version, checksum in applied.items():
        # An unknown version is a newer release's, applied ahead of a rolling upgrade: no fault.
        if version in known and known[version].checksum != checksum:
            raise MigrationError(
                f"migration {version} was changed after it was applied; "
                "restore the file and write a new migration for the change"
            )
    return [migration for migration in migrations if migration.version not in applied]


def _say_nothing(_: str) -> None:
    """Nobody listens."""


class _Applying:
    """One run of migrations on one connection."""

    def __init__(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        sql: Mapping[str, str],
        tries: int,
        say: Say,
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._tries = tries
        self._say = say

    async def take_turn(self) -> None:
        """Return when no other process migrates, or raise after a bound.

        Asked again and again: a session that waits inside PostgreSQL is one that an index which is
        built concurrently waits for in turn.
        """
        backoff = Backoff(first_s=0.1, most_s=1.0)
        clock = asyncio.get_running_loop().time
        until = clock() + OTHER_MIGRATOR_MAX_S
        is_told = False
        while not await self._connection.fetchval(self._sql["try_lock_migrations"], LOCK_KEY):
            if clock() > until:
                raise MigrationError(
                    f"another process has been migrating for {OTHER_MIGRATOR_MAX_S:g} s; "
                    "run it again when that one is done"
                )
            if not is_told:
                self._say("waits for another process that migrates")
                is_told = True
            await asyncio.sleep(backoff.next_delay_s())

    async def apply(self, migration: Migration, hold_max_s: float | None) -> None:
        """Apply one migration, in as many tries as there are."""
        if not migration.in_transaction:
            await self._apply_alone(migration)
            return
        backoff = Backoff(first_s=0.5, most_s=5.0)
        for number in range(1, self._tries + 1):
            try:
                await self._try(migration, hold_max_s)
            except (*_NO_LOCK, TimeoutError) as error:
                reason = await self._reason(error)
                if number == self._tries:
                    raise MigrationError(
                        f"{migration.version} was given up after {number} tries: {reason}; "
                        "run it again when those sessions are done or there is less traffic"
                    ) from error
                self._say(f"{migration.version} {reason} (try {number} of {self._tries})")
                await asyncio.sleep(backoff.next_delay_s())
            else:
                return

    async def _try(self, migration: Migration, hold_max_s: float | None) -> None:
        async with self._connection.transaction():
            await self._connection.execute(self._sql["bound_migration_locks"], timeout=hold_max_s)
            await self._connection.execute(migration.statements, timeout=hold_max_s)
            await self._note(migration)

    async def _apply_alone(self, migration: Migration) -> None:
        """Without bounds: what may not stand in a database transaction keeps nobody waiting."""
        if name := await self._connection.fetchval(self._sql["read_invalid_index"]):
            raise MigrationError(
                f"an earlier try left the index {name} half built; "
                f"drop it (DROP INDEX CONCURRENTLY {name}) and run it again"
            )
        await self._connection.execute(migration.statements)
        await self._note(migration)

    async def _note(self, migration: Migration) -> None:
        await self._connection.execute(
            self._sql["insert_applied"], migration.version, migration.checksum
        )

    async def _reason(self, error: Exception) -> str:
        """Say why a try failed, and which sessions have been in the way since before it began."""
        if isinstance(error, TimeoutError):
            return f"took longer than {HOLD_MAX_S:g} s"
        if isinstance(error, asyncpg.DeadlockDetectedError):
            return "made way for a session that locks the same tables in another order"
        rows = await self._connection.fetch(self._sql["read_lock_holders"], LOCK_WAIT_S)
        holders = "; ".join(_holder(row) for row in rows) or "short ones without a gap"
        return f"waits for a lock ({error}), held by: {holders}"


def _holder(row: asyncpg.Record) -> str:
    age = "for an unknown time" if row["age_s"] is None else f"for {row['age_s']:.0f} s"
    tables = ", ".join(row["tables"])
    name = row["application_name"] or row["backend_type"] or row["role"]
    return f"process {row['pid']} ({name}, {row['state'] or 'hidden'}) {age} on {tables}"


def check_database(pool: Pool) -> Check:
    """Return a check that asks PostgreSQL for its migrations."""
    sql = load_queries("runtime.postgres")

    async def check() -> DependencyState:
        # Bounded at both ends: a connection that is never given back would be lost to the pool.
        async with pool.acquire(timeout=CHECK_S) as connection:
            is_migrated = await connection.fetchval(sql["has_schema_migrations"], timeout=CHECK_S)
        return DependencyState.of(
            is_up=bool(is_migrated), trouble="not migrated; run: ackledger migrate"
        )

    return check
