"""Rows by id for many readers: reads of one instant share a query."""

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from runtime.postgres.pool import Lane, Pool
from runtime.service.batcher import MicroBatcher

READ_MAX: Final = 200
WAITING_MAX: Final = 20_000
WORKERS: Final = 2


class GatheredReads:
    """Reads rows by id; a read is answered by a query that began after it was asked for.

    So whoever was told of a commit reads what it left. However many read, they take WORKERS of the
    pool's connections at most.
    """

    def __init__(self, pool: Pool, sql: str) -> None:
        """`sql` takes an array of ids, and returns the rows of those that there are."""
        self._lane = Lane(pool)
        self._sql = sql
        self._reads: MicroBatcher[UUID, asyncpg.Record | None] = MicroBatcher(
            self._read, group_max=READ_MAX, waiting_max=WAITING_MAX, workers=WORKERS
        )

    async def run(self) -> None:
        """Read until cancelled."""
        await self._reads.run()

    def read_soon(self, wanted: UUID) -> "asyncio.Future[Sequence[asyncpg.Record | None]]":
        """Return what will hold one row, or None for an id that there is not.

        Raises BatcherFullError when WAITING_MAX reads wait.
        """
        return self._reads.submit([wanted])

    async def _read(self, ids: list[UUID]) -> Sequence[asyncpg.Record | None]:
        async with self._lane.use() as connection:
            rows = await connection.fetch(self._sql, ids)
        by_id = {row["id"]: row for row in rows}
        return [by_id.get(one) for one in ids]
