"""The trail in the database: seals, what is known of the books' integrity, and the audit log."""

from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from contracts.identifiers import first_id_at
from contracts.problems import ContractError, ProblemCode
from runtime.postgres.audit import Trail, note_act
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries
from runtime.service.pagination import Examined, examine

COUNTED_MAX: Final = 10_000
"""Findings that are counted: the reconciler keeps no more of one verification."""
_TRIES: Final = 3
"""One that is open may end between the two questions; that it happens again and again does not."""
LAST_ID: Final = UUID(int=2**128 - 1)
_FIRST_ID: Final = UUID(int=0)
_ID_LEAD: Final = timedelta(seconds=1)
"""A record's id is made microseconds before its moment; this covers a server that stands still."""


class SealStore:
    """Seals as clients read them."""

    def __init__(self, lists: Pool) -> None:
        self._lists = lists
        self._sql = load_queries("ingress")

    async def list_page(
        self, *, before: int | None, limit: int
    ) -> tuple[list[asyncpg.Record], int | None]:
        """Return a page of seals, the newest first, and before which one the next page starts.

        `before` None starts at the end of the chain. One more is read than fits: do any follow?
        """
        rows = await self._lists.fetch(self._sql["list_seals"], before, limit + 1)
        page = rows[:limit]
        return page, page[-1]["number"] if len(rows) > limit else None


class IntegrityStore:
    """Findings, and verifications of the whole book."""

    def __init__(self, lists: Pool) -> None:
        self._lists = lists
        self._sql = load_queries("ingress")

    async def read(self) -> tuple[asyncpg.Record, asyncpg.Record | None]:
        """Return how far the books are checked, and the last verification."""
        [progress] = await self._lists.fetch(self._sql["read_checked"], COUNTED_MAX)
        return progress, await self._lists.fetchrow(self._sql["read_last_verification"])

    async def list_findings(
        self, *, after: tuple[str, str], limit: int
    ) -> tuple[list[asyncpg.Record], tuple[str, str] | None]:
        """Return a page of findings, and after which check and subject the next one starts."""
        rows = await self._lists.fetch(self._sql["list_findings"], *after, limit + 1)
        page = rows[:limit]
        if len(rows) <= limit:
            return page, None
        return page, (page[-1]["check_name"], page[-1]["subject"])

    async def request(self, trail: Trail) -> tuple[asyncpg.Record, bool]:
        """Ask for a verification; return it, or the one that is open, and whether it is new."""
        for _ in range(_TRIES):
            async with self._lists.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(self._sql["insert_verification"], trail.actor)
                if row is not None:
                    await note_act(
                        connection,
                        trail,
                        action="verification.requested",
                        subject=f"verification:{row['id']}",
                    )
                    return row, True
                row = await connection.fetchrow(self._sql["read_last_verification"])
                if row is not None and row["ended_at"] is None:
                    return row, False
        raise ContractError(ProblemCode.DATABASE_UNAVAILABLE, "ask again in a moment")


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records are wanted; None lets any through. `start` is included, `end` is not."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    start: datetime | None = None
    end: datetime | None = None


class AuditStore:
    """Records of the audit log as clients read them."""

    def __init__(self, lists: Pool) -> None:
        self._lists = lists
        self._sql = load_queries("ingress")

    async def list_page(
        self, wanted: AuditFilter, *, before: UUID, limit: int
    ) -> tuple[list[asyncpg.Record], UUID | None]:
        """Return a page of records, the newest first, and before which one the next page starts."""
        first = _FIRST_ID if wanted.start is None else first_id_at(wanted.start - _ID_LEAD)
        last = before if wanted.end is None else min(before, first_id_at(wanted.end))

        async def step(start: UUID, count: int) -> Examined[UUID]:
            rows = await self._lists.fetch(
                self._sql["examine_audit"], start, first, count, *astuple(wanted)
            )
            return [(row["id"], row["is_match"]) for row in rows]

        window = await examine(step, start=last, limit=limit)
        rows = await self._lists.fetch(self._sql["read_audit_records"], window.matches)
        by_id = {row["id"]: row for row in rows}
        return [by_id[one] for one in window.matches], window.next_start
