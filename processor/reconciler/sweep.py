"""The sweep: walks the primary key from where it came to, and notes what is still PENDING."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from contracts.identifiers import first_id_at
from processor.reconciler import metrics
from runtime.database import Connection, Pool
from runtime.queries import load_queries

ROWS_PER_STEP_MAX: Final = 20_000
"""Rows that one commit walks over: some tens of milliseconds."""
READER_AFTER_S: Final = 30.0
"""A database transaction that wrote nothing for so long is a reader; recording is one statement,
which makes its ids and writes them at once."""
REWIND: Final = timedelta(minutes=10)
"""How far the sweep goes back when the database's clock was set back: rows that were made between
the step and its discovery are swept again, at the price of reading them twice."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SweepCounts:
    """What a sweep walked over, and what it newly found PENDING."""

    swept: int
    stale: int


class Sweep:
    """Puts transactions that are PENDING for too long on the worklist, each row looked at once."""

    def __init__(self, pool: Pool, *, reader_after_s: float = READER_AFTER_S) -> None:
        self._pool = pool
        self._reader_after_s = reader_after_s
        self._sql = load_queries("processor.reconciler")

    async def run_once(self, *, older_than_s: float) -> SweepCounts:
        """Walk to the present minus a threshold, in bounded steps, each a commit of its own.

        Ids are made by the database's clock, so no other clock is asked.
        """
        swept = stale = 0
        async with self._pool.acquire() as connection:
            is_done = False
            while not is_done:
                counts, is_done = await self._step(connection, older_than_s)
                swept += counts.swept
                stale += counts.stale
        metrics.SWEPT.inc(swept)
        metrics.STALE.inc(stale)
        if stale:
            log.info("stale_transactions_found", transactions=stale)
        return SweepCounts(swept=swept, stale=stale)

    async def _step(self, connection: Connection, older_than_s: float) -> tuple[SweepCounts, bool]:
        [clock] = await connection.fetch(
            self._sql["read_horizon"], older_than_s, self._reader_after_s
        )
        horizon, now = first_id_at(clock["horizon"]), clock["now"]
        async with connection.transaction():
            watermark = await connection.fetchval(self._sql["lock_progress"])
            if watermark > first_id_at(now):
                log.warning("database_clock_set_back", now=now.isoformat())
                watermark = first_id_at(now - REWIND)
                await connection.execute(self._sql["rewind_progress"], watermark)
            if watermark >= horizon:
                return SweepCounts(swept=0, stale=0), True
            [row] = await connection.fetch(
                self._sql["sweep_step"], watermark, horizon, ROWS_PER_STEP_MAX
            )
        counts = SweepCounts(swept=row["swept"], stale=row["stale"])
        return counts, counts.swept < ROWS_PER_STEP_MAX
