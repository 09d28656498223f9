"""Migrations are applied once, whoever applies them and however often."""

import asyncio
from dataclasses import replace

import pytest

from runtime.postgres.migrate import MigrationError, load_migrations, migrate, missing_migrations
from runtime.postgres.pool import connect


async def test_the_second_run_finds_nothing_to_do(empty_database_url: str) -> None:
    connection = await connect(empty_database_url, name="test")
    migrations = load_migrations()

    assert await missing_migrations(connection, migrations) == migrations
    assert await migrate(connection, migrations) == migrations
    assert await migrate(connection, migrations) == []
    assert await missing_migrations(connection, migrations) == []
    await connection.close()


async def test_of_two_that_migrate_at_once_one_does_all(empty_database_url: str) -> None:
    migrations = load_migrations()
    connections = [await connect(empty_database_url, name="test") for _ in range(4)]

    applied = await asyncio.gather(*(migrate(one, migrations) for one in connections))

    assert sorted(len(done) for done in applied) == [0, 0, 0, len(migrations)]
    for connection in connections:
        await connection.close()


async def test_an_applied_file_that_changed_is_refused(database_url: str) -> None:
    connection = await connect(database_url, name="test")
    first, *others = load_migrations()

    with pytest.raises(MigrationError, match=first.version):
        await migrate(connection, [replace(first, checksum="another"), *others])
    await connection.close()


async def test_a_migration_that_fails_leaves_nothing_behind(database_url: str) -> None:
    connection = await connect(database_url, name="test")
    broken = replace(
        load_migrations()[0],
        version="9999_broken",
        statements="CREATE TABLE half_done (id integer); SELECT 1 / 0;",
    )

    with pytest.raises(Exception, match="division by zero"):
        await migrate(connection, [*load_migrations(), broken])

    assert await connection.fetchval("SELECT to_regclass('half_done')") is None
    await connection.close()


async def test_a_migration_waits_no_longer_than_a_second_for_a_lock(database_url: str) -> None:
    connection = await connect(database_url, name="test")
    other = await connect(database_url, name="test")
    slow = replace(
        load_migrations()[0],
        version="9999_locked",
        statements="ALTER TABLE wallets ADD COLUMN unneeded integer;",
    )
    async with other.transaction():
        await other.execute("LOCK TABLE wallets IN ACCESS SHARE MODE")
        with pytest.raises(Exception, match="lock timeout"):
            await migrate(connection, [*load_migrations(), slow])
    await connection.close()
    await other.close()
