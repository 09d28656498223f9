"""A batch looks its rows up by their keys, whatever the tables were like when it was planned."""

from uuid import UUID, uuid4

from processor.poster import Poster
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries
from tests.integration.processor.books import add_wallets, open_pool, record, transfer_command
from tests.support import eventually

_SMALL = 60
_GROWN = 2_000
_FEW = 100


async def _transfers(database: Connection, count: int) -> list[list[UUID]]:
    """Record transfers, and return each one's id as a batch of its own."""
    source, destination = await add_wallets(database, 2, balance=count)
    commands = [transfer_command(uuid4().hex, source, destination, 1) for _ in range(count)]
    return [[one] for one in await record(database, commands)]


async def _post_all(poster: Poster, batches: list[list[UUID]]) -> None:
    """Post batches of one, five hundred in a commit."""
    for start in range(0, len(batches), 500):
        await poster.post([one for [one] in batches[start : start + 500]])


async def _rows_read(database: Connection, pool: Pool, *, table: str = "transactions") -> int:
    """Return how many index entries of a table both sessions have read so far.

    Each session tells what it read when it is asked to; so the pool has one, which posts and reads.
    """
    for session in (database, pool):
        await session.execute("SELECT pg_stat_force_next_flush()")
    read: int = await database.fetchval(
        "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = $1", table
    )
    return read


async def test_a_batch_that_was_planned_on_a_small_table_does_not_scan_the_grown_one(
    database: Connection, database_url: str
) -> None:
    async with open_pool(database_url, size=1) as pool:
        poster = Poster(pool)
        for batch in await _transfers(database, _SMALL):
            await poster.post(batch)
        await database.execute("ANALYZE transactions")
        for batch in await _transfers(database, 3):
            await poster.post(batch)
        *grown, last = await _transfers(database, _GROWN)
        await _post_all(poster, grown)
        before = await _rows_read(database, pool)
        await poster.post(last)

        async def counted() -> int:
            return await _rows_read(database, pool) - before

        read = await eventually(counted, what="the last batch's reads")

    assert read < _FEW


async def test_a_transaction_s_entries_are_looked_up_however_few_there_were_when_it_was_planned(
    database: Connection, database_url: str
) -> None:
    read = load_queries("processor")["read_transactions"]
    await database.execute("ANALYZE entries")
    async with open_pool(database_url, size=1) as pool:
        [first], *grown = await _transfers(database, _GROWN)
        await pool.fetch(read, [first])
        await _post_all(Poster(pool), grown)
        before = await _rows_read(database, pool, table="entries")
        [row] = await pool.fetch(read, grown[-1])

        async def counted() -> int:
            return await _rows_read(database, pool, table="entries") - before

        looked_at = await eventually(counted, what="the entries that were read")

    assert row["destination_balance_after"] is not None
    assert looked_at < _FEW
