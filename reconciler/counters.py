"""What rules have counted and no window holds any more is forgotten, in bounded steps."""

from datetime import datetime
from typing import Final

import structlog

from ledger.screening import Window
from reconciler import metrics
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries
from runtime.screening.model import DAILY, DAY_S, window_of

ROWS_PER_STEP_MAX: Final = 5_000
"""Counters that one commit looks at: some tens of milliseconds."""
BUSY_INTERVAL_S: Final = 1.0
"""Between two steps of one walk through all counters."""
WALK_INTERVAL_S: Final = 600.0
"""Between the end of a walk and the next one."""

_START: Final = ""

log = structlog.get_logger()


class CounterSweep:
    """Walks through the counters by their keys, again and again; safe beside another's."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._after = _START
        self._sql = load_queries("reconciler")

    async def run_step(self) -> float:
        """Make one step, and return the seconds to rest after it."""
        forgotten = await self.run_once()
        if forgotten:
            log.info("rule_counters_forgotten", counters=forgotten)
        return WALK_INTERVAL_S if self._after == _START else BUSY_INTERVAL_S

    async def run_once(self) -> int:
        """Look at the next counters, and return how many of them were forgotten.

        One that a batch has locked is left for the next walk.
        """
        rows = await self._pool.fetch(self._sql["read_windows"])
        now: datetime = await self._pool.fetchval(self._sql["read_clock"])
        windows = {row["number"]: window_of(row["window_s"]) for row in rows}
        windows[DAILY] = Window(DAY_S, buckets=1)
        oldest = {
            number: window.bucket_at(now.timestamp()) - window.buckets + 1
            for number, window in windows.items()
        }
        seen = await self._pool.fetchrow(
            self._sql["forget_counters"],
            self._after,
            ROWS_PER_STEP_MAX,
            list(oldest),
            list(oldest.values()),
        )
        assert seen is not None, "it selects from one row"  # noqa: S101
        is_last = seen["looked_at"] < ROWS_PER_STEP_MAX
        self._after = _START if is_last else seen["last_key"]
        forgotten: int = seen["forgotten"]
        metrics.COUNTERS_FORGOTTEN.inc(forgotten)
        return forgotten
