"""A batch looks its rows up by their keys, whatever the tables were like when it was planned."""

from uuid import UUID, uuid4

from processor.posting import Poster
from runtime.database import Connection, Pool
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


async def _rows_read(database: Connection, pool: Pool) -> int:
    """Return how many index entries of transactions all sessions have read so far."""
    await pool.execute("SELECT pg_stat_force_next_flush()")
    read: int = await database.fetchval(
        "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'transactions'"
    )
    return read


async def test_a_batch_that_was_planned_on_a_small_table_does_not_scan_the_grown_one(
    database: Connection, database_url: str
) -> None:
    async with open_pool(database_url) as pool:
        poster = Poster(pool)
        for batch in await _transfers(database, _SMALL):
            await poster.post(batch)
        await database.execute("ANALYZE transactions")
        for batch in await _transfers(database, 3):
            await poster.post(batch)
        *grown, last = await _transfers(database, _GROWN)
        for start in range(0, len(grown), 500):
            await poster.post([one for [one] in grown[start : start + 500]])
        before = await _rows_read(database, pool)
        await poster.post(last)

        async def counted() -> int:
            return await _rows_read(database, pool) - before

        read = await eventually(counted, what="the last batch's reads")

    assert read < _FEW
