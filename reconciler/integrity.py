"""The integrity check: an incremental `verify` that follows the sweep and never looks at all.

The sweep passes each transaction once; what is not PENDING there is final, so its entries and its
wallets are checked right behind it. What was still PENDING is on the retry queue; when it leaves
that, it is listed as a late ending and checked by the list.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from contracts.identifiers import moment_of
from reconciler import metrics
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries
from verification.checks import FINDINGS_HELD_MAX, Finding
from verification.verify import check_transactions

TRANSACTIONS_PER_STEP_MAX: Final = 5_000
"""What one step looks at: some hundred milliseconds of the server's time."""
TRANSACTIONS_PER_STEP_MIN: Final = 50
"""What it looks at least, where a step took longer than a statement may."""
SHARE_MAX: Final = 0.25
"""The part of the time that it works while it is behind, so that posting keeps the server."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IntegrityCounts:
    """What one step looked at and newly found; `lag_s` is how far the sweep is ahead of it."""

    checked: int
    findings: int
    is_caught_up: bool
    lag_s: float


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The next transactions of the walk, from one place of the watermark to another."""

    ids: Sequence[UUID]
    checked_until: UUID
    next_until: UUID
    swept_until: UUID

    @property
    def lag_s(self) -> float:
        if self.next_until == self.swept_until:
            return 0.0
        ahead = moment_of(self.swept_until) - moment_of(self.next_until)
        return max(0.0, ahead.total_seconds())


class IntegrityCheck:
    """Checks what was posted since its last step; a finding is told once, in log and metric."""

    def __init__(
        self, pool: Pool, *, interval_s: float, step_max: int = TRANSACTIONS_PER_STEP_MAX
    ) -> None:
        self._pool = pool
        self._interval_s = interval_s
        self._step_max = step_max
        self._size = step_max
        self._sql = load_queries("reconciler")

    async def run_once(self) -> IntegrityCounts:
        """Make one bounded step; safe beside another's. Raises what the database raises."""
        async with self._pool.acquire() as connection:
            late, late_findings = await self._check_late(connection)
            stretch, findings = await self._check_next(connection)
            kept = await connection.fetchval(self._sql["count_findings"], FINDINGS_HELD_MAX)
        checked = late + len(stretch.ids)
        metrics.INTEGRITY_CHECKED.inc(checked)
        metrics.INTEGRITY_LAG_SECONDS.set(stretch.lag_s)
        metrics.INTEGRITY_KEPT_FINDINGS.set(kept)
        return IntegrityCounts(
            checked=checked,
            findings=late_findings + findings,
            is_caught_up=max(late, len(stretch.ids)) < self._size,
            lag_s=stretch.lag_s,
        )

    async def run_step(self) -> float:
        """Make one step, and return the seconds to rest after it; after an error a smaller one."""
        began = time.monotonic()
        try:
            counts = await self.run_once()
        except Exception:
            self._size = max(TRANSACTIONS_PER_STEP_MIN, self._size // 2)
            raise
        self._size = min(self._step_max, self._size * 2)
        if counts.is_caught_up:
            return self._interval_s
        took_s = time.monotonic() - began
        return min(self._interval_s, took_s * (1 - SHARE_MAX) / SHARE_MAX)

    async def _check_late(self, connection: Connection) -> tuple[int, int]:
        """Check what ended behind the sweep; return how many those were, and what was found.

        One database transaction: should one of them change and be listed again meanwhile, it is
        listed behind this commit and not lost.
        """
        async with connection.transaction():
            rows = await connection.fetch(self._sql["take_late_endings"], self._size)
            ids = [row["transaction_id"] for row in rows]
            findings = await check_transactions(connection, ids)
            return len(ids), await note_findings(connection, findings)

    async def _check_next(self, connection: Connection) -> tuple[_Stretch, int]:
        stretch = await self._next_stretch(connection)
        findings = await check_transactions(connection, stretch.ids)
        async with connection.transaction():
            found = await note_findings(connection, findings)
            if stretch.next_until > stretch.checked_until:
                await connection.execute(
                    self._sql["move_integrity_progress"], stretch.checked_until, stretch.next_until
                )
        return stretch, found

    async def _next_stretch(self, connection: Connection) -> _Stretch:
        [progress] = await connection.fetch(self._sql["read_integrity_progress"])
        checked_until, swept_until = progress["checked_until"], progress["swept_until"]
        rows = await connection.fetch(
            self._sql["list_unchecked"], checked_until, swept_until, self._size
        )
        ids = [row["id"] for row in rows]
        is_full = len(ids) == self._size
        next_until = UUID(int=ids[-1].int + 1) if is_full else swept_until
        return _Stretch(ids, checked_until, next_until, swept_until)


async def note_findings(connection: Connection, findings: Sequence[Finding]) -> int:
    """Keep findings and tell of the new ones; told before the commit: rather twice than not."""
    if not findings:
        return 0
    rows = await connection.fetch(
        load_queries("reconciler")["note_findings"],
        [finding.check.value for finding in findings],
        [finding.subject for finding in findings],
        [finding.detail for finding in findings],
    )
    for row in rows:
        metrics.INTEGRITY_FINDINGS.labels(row["check_name"]).inc()
        log.error(
            "integrity_finding",
            check=row["check_name"],
            subject=row["subject"],
            detail=row["detail"],
        )
    return len(rows)
