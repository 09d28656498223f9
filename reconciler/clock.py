"""What happens at its time: holds that expire, and transactions that are due.

A hold is worth nothing from its instant on, for posting and for reads; here its money is made
available in the wallet's row too, and the event is owed. A SCHEDULED transaction becomes PENDING,
and is announced through the retry queue like any other that nobody has announced.
"""

from dataclasses import dataclass
from typing import Final

import structlog

from reconciler import metrics
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries

HOLDS_PER_STEP_MAX: Final = 500
"""One commit and one event row in the outbox: as many as a batch of the processor."""
DUE_PER_STEP_MAX: Final = 1_000
"""As many as may be in flight by default."""
STEPS_MAX: Final = 20
"""Commits of either kind in one pass: a flood of one kind does not hold back the other."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ClockCounts:
    """What one pass did; `is_done`: nothing more was due."""

    holds_expired: int
    woken: int
    is_done: bool


class Clock:
    """Does what is due by the database's clock, in bounded commits; safe beside another's."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = load_queries("reconciler")

    async def run_once(self) -> ClockCounts:
        """Expire holds and wake SCHEDULED transactions; raises what the database raises."""
        woken, none_due = await self._repeat("wake_scheduled", DUE_PER_STEP_MAX)
        metrics.SCHEDULED_DUE.inc(woken)
        expired, none_open = await self._repeat("expire_holds", HOLDS_PER_STEP_MAX)
        metrics.HOLDS_EXPIRED.inc(expired)
        if woken or expired:
            log.info("clock_struck", woken=woken, holds_expired=expired)
        return ClockCounts(holds_expired=expired, woken=woken, is_done=none_due and none_open)

    async def _repeat(self, query: str, size: int) -> tuple[int, bool]:
        """Make steps until one is not full; return how many rows, and whether that was so."""
        done = 0
        for _ in range(STEPS_MAX):
            count: int = await self._pool.fetchval(self._sql[query], size)
            done += count
            if count < size:
                return done, True
        return done, False
