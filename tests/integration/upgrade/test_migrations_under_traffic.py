"""Migrations run while traffic flows: nobody stands behind a waiting migration for long."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from runtime.postgres.migrate import MigrationError, load_migrations, migrate
from runtime.postgres.pool import connect
from tests.integration.upgrade.traffic import flowing
from tests.support import eventually

pytestmark = pytest.mark.long

PlainConnection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_HAS_COLUMN = """
SELECT EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = $1::text::regclass AND attname = 'since_upgrade' AND NOT attisdropped
)
"""
# Waits for the migration, in the server, then asks for what the migration holds until it has it.
# Each wait is shorter than `deadlock_timeout`: it is the migration that finds the deadlock.
_CROSS = """
DO $$
BEGIN
    FOR look IN 1..4000 LOOP
        EXIT WHEN EXISTS (
            SELECT FROM pg_locks
            WHERE
                relation = 'transactions'::regclass
                AND mode = 'AccessExclusiveLock'
                AND NOT granted
        );
        PERFORM pg_sleep(0.005);
    END LOOP;
    FOR look IN 1..400 LOOP
        BEGIN
            PERFORM id FROM wallets LIMIT 1;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN NULL;
        END;
    END LOOP;
END
$$
"""
_HAS_INDEX = "SELECT to_regclass('entries_by_moment') IS NOT NULL"
_FEWEST_BETWEEN_TRIES = 20
"""Posted between two tries: a pause of a quarter of a second leaves room for hundreds."""


@pytest.fixture
async def migrating(database_url: str) -> AsyncIterator[PlainConnection]:
    """The connection of `ackledger migrate`."""
    connection = await connect(database_url, name="migrate")
    yield connection
    await connection.close()


@pytest.fixture
async def foreign(database_url: str) -> AsyncIterator[PlainConnection]:
    """Somebody else's session."""
    connection = await connect(database_url, name="report")
    yield connection
    await connection.close()


def _written(folder: Path, statements: str, *, header: str = "-- migrate:up") -> None:
    (folder / "9000_upgrade.sql").write_text(f"{header}\n{statements}\n")


async def test_traffic_flows_while_a_migration_waits_for_a_foreign_session(
    database_url: str, migrating: PlainConnection, foreign: PlainConnection, tmp_path: Path
) -> None:
    _written(tmp_path, "ALTER TABLE transactions ADD COLUMN since_upgrade text;")
    said: list[str] = []
    posted: list[int] = []

    async with flowing(database_url) as traffic:
        reading = foreign.transaction()
        await reading.start()
        # It reads one row, and its ACCESS SHARE lock stays until its database transaction ends.
        await foreign.execute("SELECT id FROM transactions LIMIT 1")

        def hear(text: str) -> None:
            said.append(text)
            posted.append(traffic.posted)

        upgrade = asyncio.ensure_future(
            migrate(migrating, load_migrations(tmp_path), tries=10, say=hear)
        )

        async def has_tried_four_times() -> bool:
            return len(said) >= 4

        await eventually(has_tried_four_times, what="four tries")
        assert not upgrade.done()
        await reading.rollback()
        applied = await upgrade

    assert [one.version for one in applied] == ["9000_upgrade"]
    assert await migrating.fetchval(_HAS_COLUMN, "transactions")
    flowed = [later - earlier for earlier, later in pairwise(posted)]
    assert min(flowed) >= _FEWEST_BETWEEN_TRIES, flowed
    # Whoever waits is told for whom: the session, and the table that it keeps.
    assert f"process {foreign.get_server_pid()} (ackledger-report" in said[0]
    assert "transactions" in said[0].rsplit(" on ", 1)[1]


async def test_a_migration_that_gets_no_lock_gives_up_and_names_who_has_it(
    database_url: str, migrating: PlainConnection, foreign: PlainConnection, tmp_path: Path
) -> None:
    _written(tmp_path, "ALTER TABLE wallets ADD COLUMN since_upgrade text;")
    async with flowing(database_url), foreign.transaction():
        await foreign.execute("SELECT id FROM wallets LIMIT 1")
        with pytest.raises(MigrationError, match=r"ackledger-report.* on wallets"):
            await migrate(migrating, load_migrations(tmp_path), tries=2)

    assert not await migrating.fetchval(_HAS_COLUMN, "wallets")


async def test_a_migration_that_waits_for_its_second_table_lets_go_of_the_first(
    database_url: str, migrating: PlainConnection, foreign: PlainConnection, tmp_path: Path
) -> None:
    _written(
        tmp_path,
        "ALTER TABLE wallets ADD COLUMN since_upgrade text;"
        "ALTER TABLE entries ADD COLUMN since_upgrade text;",
    )
    async with flowing(database_url) as traffic, foreign.transaction():
        await foreign.execute("SELECT sequence FROM entries LIMIT 1")
        with pytest.raises(MigrationError, match="on entries"):
            await migrate(migrating, load_migrations(tmp_path), tries=1)
        await traffic.more(_FEWEST_BETWEEN_TRIES)

    assert not await migrating.fetchval(_HAS_COLUMN, "wallets")


async def test_a_migration_that_meets_a_session_in_a_deadlock_is_undone_and_tried_again(
    migrating: PlainConnection, foreign: PlainConnection, tmp_path: Path
) -> None:
    _written(
        tmp_path,
        "ALTER TABLE wallets ADD COLUMN since_upgrade text;\n"
        "ALTER TABLE transactions ADD COLUMN since_upgrade text;",
    )
    said: list[str] = []
    await foreign.execute("SET lock_timeout = '50ms'")
    crossing = foreign.transaction()
    await crossing.start()
    await foreign.execute("SELECT id FROM transactions LIMIT 1")
    upgrade = asyncio.ensure_future(
        migrate(migrating, load_migrations(tmp_path), tries=10, say=said.append)
    )

    await foreign.execute(_CROSS)
    await crossing.rollback()
    await upgrade

    assert await migrating.fetchval(_HAS_COLUMN, "transactions")
    assert len(said) >= 1


async def test_a_migration_that_would_hold_its_locks_for_long_is_undone(
    database_url: str, migrating: PlainConnection, tmp_path: Path
) -> None:
    _written(tmp_path, "ALTER TABLE wallets ADD COLUMN since_upgrade text; SELECT pg_sleep(3600);")
    async with flowing(database_url) as traffic:
        with pytest.raises(MigrationError, match="took longer than 1 s"):
            await migrate(migrating, load_migrations(tmp_path), tries=2)
        await traffic.more(_FEWEST_BETWEEN_TRIES)

    assert not await migrating.fetchval(_HAS_COLUMN, "wallets")


async def test_a_new_database_may_take_its_time(empty_database_url: str, tmp_path: Path) -> None:
    _written(tmp_path, "SELECT pg_sleep(1.2);")
    connection = await connect(empty_database_url, name="migrate")

    applied = await migrate(connection, load_migrations(tmp_path))

    assert [one.version for one in applied] == ["9000_upgrade"]
    await connection.close()


async def test_two_that_build_an_index_concurrently_do_not_wait_for_each_other(
    database_url: str, migrating: PlainConnection, foreign: PlainConnection, tmp_path: Path
) -> None:
    _written(
        tmp_path,
        "CREATE INDEX CONCURRENTLY entries_by_moment ON entries (created_at);",
        header="-- migrate:up transaction:false",
    )
    wanted = load_migrations(tmp_path)
    async with flowing(database_url):
        both = await asyncio.gather(migrate(migrating, wanted), migrate(foreign, wanted))

    assert sorted(map(len, both)) == [0, 1]
    assert await migrating.fetchval(_HAS_INDEX)


async def test_an_index_that_was_left_half_built_is_named(
    migrating: PlainConnection, tmp_path: Path
) -> None:
    _written(
        tmp_path,
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS entries_by_moment ON entries (created_at);",
        header="-- migrate:up transaction:false",
    )
    await migrating.execute(
        "INSERT INTO wallets (id, currency) SELECT gen_random_uuid(), 'USD' "
        "FROM generate_series(1, 2)"
    )
    half_built = "CREATE UNIQUE INDEX CONCURRENTLY entries_by_moment ON wallets (currency)"
    with pytest.raises(asyncpg.UniqueViolationError):
        await migrating.execute(half_built)

    with pytest.raises(MigrationError, match="DROP INDEX CONCURRENTLY entries_by_moment"):
        await migrate(migrating, load_migrations(tmp_path))

    await migrating.execute("DROP INDEX CONCURRENTLY entries_by_moment")
    assert await migrate(migrating, load_migrations(tmp_path)) != []
