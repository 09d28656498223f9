"""The constraint on what is available gives way for internal wallets, under traffic."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from runtime.postgres.migrate import Migration, load_migrations, migrate
from runtime.postgres.pool import connect
from tests.conftest import Connection

_FIRST: Final = "0017"
_BEHIND: Final = "0019"
_WALLETS: Final = 200_000
"""To read them all takes some tens of milliseconds: time enough to be caught at it."""
_FILL: Final = """
INSERT INTO wallets (id, currency, balance, overdraft_limit)
SELECT gen_random_uuid(), 'USD', n % 1000 - 500, 500 FROM generate_series(1, $1::integer) AS n
"""
_CONSTRAINTS: Final = """
SELECT convalidated FROM pg_constraint WHERE conname = 'wallets_available_not_negative'
"""
_INSERT: Final = """
INSERT INTO wallets (id, currency, kind, balance)
VALUES ($1, 'USD', $2::text::wallet_kind, -1)
"""


@pytest.fixture
async def before(empty_database_url: str) -> AsyncIterator[Connection]:
    """A database of the release before, with wallets in it."""
    connection = await connect(empty_database_url, name="migrate")
    await migrate(connection, [one for one in load_migrations() if one.version < _FIRST])
    await connection.execute(_FILL, _WALLETS)
    yield connection
    await connection.close()


def _migrations() -> list[Migration]:
    return [one for one in load_migrations() if one.version < _BEHIND]


async def test_internal_wallets_alone_lose_their_limit(before: Connection) -> None:
    await migrate(before, _migrations(), tries=10)

    assert [row["convalidated"] for row in await before.fetch(_CONSTRAINTS)] == [True]
    await before.execute(_INSERT, uuid4(), "internal")
    await before.execute(_INSERT, uuid4(), "external")
    with pytest.raises(asyncpg.CheckViolationError):
        await before.execute(_INSERT, uuid4(), "customer")
    with pytest.raises(asyncpg.CheckViolationError):
        await before.execute("UPDATE wallets SET balance = -501 WHERE balance = 7")


async def test_wallets_are_written_while_they_are_migrated(
    empty_database_url: str, before: Connection
) -> None:
    ids: list[UUID] = [row["id"] for row in await before.fetch("SELECT id FROM wallets LIMIT 50")]
    writer = await connect(empty_database_url, name="test")
    stopping = asyncio.Event()
    waits: list[float] = []

    async def write() -> None:
        clock = asyncio.get_running_loop().time
        while not stopping.is_set():
            started = clock()
            await writer.execute(
                "UPDATE wallets SET balance = balance + 1 WHERE id = ANY ($1::uuid[])", ids
            )
            waits.append(clock() - started)

    writing = asyncio.ensure_future(write())
    await migrate(before, _migrations(), tries=10)
    stopping.set()
    await writing
    await writer.close()

    assert [row["convalidated"] for row in await before.fetch(_CONSTRAINTS)] == [True]
    # A writer waits for a short lock at most, and never for the reading of the table.
    assert max(waits) < 1, max(waits)
