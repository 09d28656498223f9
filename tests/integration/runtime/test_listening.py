"""Notifications of commits, also after the connection was lost."""

import asyncio
from uuid import uuid4

from processor.poster import Poster
from runtime.postgres.listening import POSTED, Listener
from runtime.postgres.pool import Connection, Pool
from tests.integration.processor.books import add_wallets, random_transfers, record
from tests.integration.reconciler.serving import running
from tests.support import PATIENCE_S, eventually

_LISTENING = """
SELECT pid FROM pg_stat_activity WHERE application_name = 'ackledger-test-listen'
AND query LIKE 'LISTEN%' AND datname = current_database()
"""


async def _listening(database: Connection, *, other_than: int | None = None) -> int:
    """Return the session that listens."""

    async def look() -> int | None:
        found: int | None = await database.fetchval(_LISTENING)
        return found if found != other_than else None

    return await eventually(look, what="a session that listens")


async def test_each_commit_is_heard_and_a_lost_connection_is_made_again(
    database_url: str, database: Connection, pool: Pool
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    wallets = await add_wallets(database, 2, balance=1_000)
    transfers = random_transfers(wallets, 2, seed=1, prefix=uuid4().hex)
    first, second = await record(database, transfers)
    listener = Listener(database_url, name="test-listen", channel=POSTED, notified=heard.put_nowait)
    async with running(listener), asyncio.timeout(PATIENCE_S):
        session = await _listening(database)
        await Poster(pool).post([first])
        assert await heard.get() == str(first)

        await database.execute("SELECT pg_terminate_backend($1)", session)
        await _listening(database, other_than=session)
        await Poster(pool).post([second])
        assert await heard.get() == str(second)
