"""Expiry: what nobody posts, although it was announced again and again, ends as FAILED."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from processor.reconciler import metrics
from runtime.database import Pool
from runtime.queries import load_queries

LAST_CALLS: Final = 3
"""Announcements past the age that a consumer has to take in vain: an outage of the processors,
however long, lets nothing expire, because nobody takes anything meanwhile."""
LAST_CALL_PAUSE_MIN_S: Final = 10.0
LAST_CALL_PAUSE_MAX_S: Final = 600.0
"""How long a consumer has for what it took: many times what it needs for all that it may hold."""
EXPIRED_PER_STEP_MAX: Final = 500
"""One commit and one event in the outbox: as many as a batch of the processor."""
_PAUSES_PER_AGE: Final = 10

log = structlog.get_logger()


def last_call_pause_s(expire_after_s: float) -> float:
    """Return the seconds between two last calls: a tenth of the age, within bounds."""
    pause_s = expire_after_s / _PAUSES_PER_AGE
    return min(LAST_CALL_PAUSE_MAX_S, max(LAST_CALL_PAUSE_MIN_S, pause_s))


class Expiry:
    """Decides what has expired, and ends it; safe beside a processor that posts the same."""

    def __init__(self, pool: Pool, *, after_s: float) -> None:
        """`after_s` is the age from which on a transaction may expire; 0 is never."""
        self._pool = pool
        self._after_s = after_s
        self._sql = load_queries("processor.reconciler")

    @property
    def age_s(self) -> float | None:
        """The age, or None where nothing expires."""
        return self._after_s or None

    @property
    def pause_s(self) -> float:
        """How long a last call waits for its end."""
        return last_call_pause_s(self._after_s)

    def is_due(self, *, is_too_old: bool, last_calls: int) -> bool:
        """Whether a PENDING transaction has had its time and its last calls."""
        return is_too_old and last_calls >= LAST_CALLS

    async def note_last_calls(self, transaction_ids: Sequence[UUID]) -> None:
        """Remember that the broker has the announcement of these, which are past their age."""
        if transaction_ids:
            await self._pool.execute(self._sql["note_last_calls"], transaction_ids)

    async def expire(self, transaction_ids: Sequence[UUID]) -> int:
        """End them, each unless it is being posted or has ended, and return how many were."""
        expired = 0
        for start in range(0, len(transaction_ids), EXPIRED_PER_STEP_MAX):
            step = transaction_ids[start : start + EXPIRED_PER_STEP_MAX]
            rows = await self._pool.fetch(self._sql["expire"], step, self._after_s, self._detail)
            expired += len(rows)
            for row in rows:
                log.warning("transaction_expired", transaction_id=str(row["id"]))
        metrics.EXPIRED.inc(expired)
        return expired

    @property
    def _detail(self) -> str:
        return f"not posted within {self._after_s:g} s, nor after {LAST_CALLS} last calls"
