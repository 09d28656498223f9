"""The audit log in the database."""

from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from contracts.identifiers import first_id_at
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries
from runtime.service.pagination import Examined, examine

LAST_ID: Final = UUID(int=2**128 - 1)
_FIRST_ID: Final = UUID(int=0)
_ID_LEAD: Final = timedelta(seconds=1)
"""A record's id is made microseconds before its moment; this covers a server that stands still."""


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
