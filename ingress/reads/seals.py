"""Seals in the database."""

import asyncpg

from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries


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
