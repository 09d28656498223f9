"""What is known of the books' integrity in the database, and what operators ask for."""

from typing import Final

import asyncpg

from contracts.problems import ContractError, ProblemCode
from runtime.postgres.audit import Trail, note_act
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries

COUNTED_MAX: Final = 10_000
"""Findings that are counted: the reconciler keeps no more of one verification."""
_TRIES: Final = 3
"""One that is open may end between the two questions; that it happens again and again does not."""


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
