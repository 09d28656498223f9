"""What operators see of the whole book, looked at by the leader alone, in bounded queries."""

from typing import Final

import asyncpg

from contracts.identifiers import external_wallet_id
from contracts.money import known_assets
from reconciler import metrics
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries

LOOK_S: Final = 15.0
"""Between two looks: as often as Prometheus usually asks."""
COUNTED_MAX: Final = 100_000
"""What is counted is counted up to this."""
CURRENCIES_MAX: Final = 300
"""Whose money is shown: the label stays bounded, however many assets there are."""


async def observe_book(database: "Pool | Connection") -> asyncpg.Record:
    """Return one row: what is PENDING, held and owed, each counted up to COUNTED_MAX."""
    row = await database.fetchrow(load_queries("reconciler")["observe_book"], COUNTED_MAX)
    if row is None:
        raise AssertionError("it selects from one row")
    return row


class BookObserver:
    """Reads how much waits, is held and is owed."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = load_queries("reconciler")

    async def run_step(self) -> float:
        """Look once, and return the seconds to rest after it."""
        row = await observe_book(self._pool)
        metrics.PENDING.set(row["pending"])
        metrics.OLDEST_PENDING_SECONDS.set(row["oldest_pending_s"])
        metrics.OPEN_HOLDS.set(row["open_holds"])
        metrics.OUTBOX_ROWS.set(row["owed"])
        metrics.OUTBOX_AGE_SECONDS.set(row["oldest_owed_s"])
        codes = {external_wallet_id(one.code): one.code for one in known_assets()[:CURRENCIES_MAX]}
        for wallet in await self._pool.fetch(self._sql["observe_money"], list(codes)):
            metrics.MONEY.labels(codes[wallet["id"]]).set(wallet["inside"])
        return LOOK_S
