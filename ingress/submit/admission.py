"""Admission: how much may come in, by what waits for posting already.

The backlog is counted in PostgreSQL, once a second. How often each client may ask is counted in
`ingress/limits`.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from contracts.identifiers import first_id_at
from contracts.problems import ContractError, ProblemCode
from ingress.metrics import BACKLOG
from runtime.postgres.pool import UNREACHABLE, Pool
from runtime.postgres.queries import load_queries
from runtime.service.periodic import one_of, repeat

BACKLOG_INTERVAL_S: Final = 1.0
MARGIN: Final = timedelta(seconds=5)
"""Rows of a group insert that commits late are still counted this long behind the newest."""
FIRST_LOOK_BACK: Final = timedelta(minutes=10)
"""Older rows that wait are the reconciler's, and do not hold up new ones."""

_PASSING: Final[tuple[type[BaseException], ...]] = (asyncpg.PostgresError, *UNREACHABLE)

log = structlog.get_logger()


def backlog_full() -> ContractError:
    """Return what is wrong with a submission that comes while too many wait."""
    return ContractError(ProblemCode.BACKLOG_FULL, "send it again after Retry-After")


class BacklogGauge:
    """Counts what waits, up to a bound, without an index on the status.

    It reads only from the oldest waiting row on, so its cost follows the backlog and not the table.
    """

    def __init__(self, pool: Pool, *, backlog_max: int) -> None:
        self._pool = pool
        self._backlog_max = backlog_max
        self._sql = load_queries("ingress")
        self._floor: UUID | None = None
        self.is_full = False
        """Whether as many wait as may wait: then nothing more is accepted."""

    async def run(self) -> None:
        """Measure until cancelled; the last measure stands while the database is away."""
        await repeat(
            self._measure,
            every_s=BACKLOG_INTERVAL_S,
            is_passing=one_of(*_PASSING),
            failed=lambda error: log.info("backlog_unknown", error=repr(error)),
        )

    async def _measure(self) -> None:
        await self.run_once()

    async def run_once(self) -> int:
        """Measure now and return how many wait, at most backlog_max."""
        if self._floor is None:
            now = await self._pool.fetchval(self._sql["read_clock"])
            self._floor = first_id_at(now - FIRST_LOOK_BACK)
        row = await self._pool.fetchrow(self._sql["count_backlog"], self._floor, self._backlog_max)
        if row is None:
            raise AssertionError("an aggregate has one row")
        self._floor = row["oldest"] or first_id_at(row["now"] - MARGIN)
        BACKLOG.set(row["waiting"])
        self.is_full = row["waiting"] >= self._backlog_max
        return int(row["waiting"])
