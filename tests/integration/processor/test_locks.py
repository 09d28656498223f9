"""Two posters on the same wallets, on a table as large as it takes for plans to go wrong."""

import asyncio

from processor.poster import Poster
from runtime.postgres.pool import Connection
from tests.integration.processor.books import add_wallets, open_pool, random_transfers, record

_SCANNED = """
SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables
WHERE relname IN ('wallets', 'transactions')
"""
WALLETS = 50_000
BATCHES = 30
BATCH = 200


async def test_two_posters_never_deadlock_and_conserve_money(
    database: Connection, database_url: str
) -> None:
    wallets = await add_wallets(database, WALLETS, balance=1_000)
    await database.execute("ANALYZE")
    # A few hundred hot wallets: nearly every batch of one poster meets one of the other.
    hot = wallets[:300]
    async with open_pool(database_url) as pool:
        poster = Poster(pool)

        async def post_all(seed: int) -> int:
            posted = 0
            for number in range(BATCHES):
                chosen = hot if number % 2 else wallets
                commands = random_transfers(
                    chosen, BATCH, seed=seed * 1000 + number, prefix=f"{seed}-{number}"
                )
                async with pool.acquire() as connection:
                    ids = await record(connection, commands)
                result = await poster.post(ids)
                posted += len(result.posting.posted)
            return posted

        counts = await asyncio.gather(post_all(1), post_all(2))

    assert sum(counts) == 2 * BATCHES * BATCH
    assert await database.fetchval("SELECT sum(balance) FROM wallets") == WALLETS * 1_000
    assert await database.fetchval("SELECT sum(amount) FROM entries") == 0
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await database.fetchval(deadlocks) == 0


async def test_locking_a_batch_reads_only_its_rows(database: Connection, database_url: str) -> None:
    wallets = await add_wallets(database, WALLETS, balance=1_000)
    await database.execute("ANALYZE")
    before = await database.fetchval(_SCANNED)
    async with open_pool(database_url) as pool:
        async with pool.acquire() as connection:
            commands = random_transfers(wallets, BATCH, seed=3, prefix="few")
            ids = await record(connection, commands)
        for start in range(0, BATCH, 50):
            await Poster(pool).post(ids[start : start + 50])

    await database.execute("SELECT pg_stat_clear_snapshot()")
    assert await database.fetchval(_SCANNED) == before
