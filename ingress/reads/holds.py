"""The holds of a wallet, read together with the wallet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from ledger.words import HoldStatus
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries
from runtime.service.pagination import Examined, examine

_LAST_ID: Final = UUID(int=2**128 - 1)


class HoldPosition(NamedTuple):
    """Where a page begins: behind this hold. `expires_at` is that of a list of open ones alone."""

    transaction_id: UUID
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class HoldPage:
    """A wallet and some of its holds, as they are at one instant."""

    wallet: asyncpg.Record
    holds: list[asyncpg.Record]
    next_position: HoldPosition | None


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A database transaction in which nothing changes, and the moment at which holds are judged."""

    connection: Connection
    moment: datetime


class HoldStore:
    """Holds as clients read them."""

    def __init__(self, pool: Pool) -> None:
        """`pool` serves lists alone."""
        self._pool = pool
        self._sql = load_queries("ingress")

    async def read_page(
        self,
        wallet_id: UUID,
        *,
        status: HoldStatus | None,
        position: HoldPosition | None,
        limit: int,
    ) -> HoldPage | None:
        """Return a page of a wallet's holds behind a position; None where there is no wallet.

        The newest come first; of open ones alone, those that expire first.
        """
        async with self._snapshot() as snapshot:
            connection, moment = snapshot.connection, snapshot.moment
            wallet = await connection.fetchrow(self._sql["read_wallet_at"], wallet_id, moment)
            if wallet is None:
                return None
            if status is HoldStatus.OPEN:
                ids, following = await self._open(snapshot, wallet_id, position, limit)
            else:
                start = _LAST_ID if position is None else position.transaction_id
                ids, following = await self._newest(snapshot, wallet_id, status, start, limit)
            rows = await connection.fetch(self._sql["read_holds"], ids, moment)
        by_id = {row["transaction_id"]: row for row in rows}
        return HoldPage(wallet, [by_id[one] for one in ids], following)

    async def _newest(
        self,
        snapshot: _Snapshot,
        wallet_id: UUID,
        status: HoldStatus | None,
        start: UUID,
        limit: int,
    ) -> tuple[list[UUID], HoldPosition | None]:
        async def step(before: UUID, count: int) -> Examined[UUID]:
            rows = await snapshot.connection.fetch(
                self._sql["examine_holds"], wallet_id, before, count, status, snapshot.moment
            )
            return [(row["transaction_id"], row["is_match"]) for row in rows]

        window = await examine(step, start=start, limit=limit)
        following = window.next_start
        return window.matches, None if following is None else HoldPosition(following)

    async def _open(
        self, snapshot: _Snapshot, wallet_id: UUID, position: HoldPosition | None, limit: int
    ) -> tuple[list[UUID], HoldPosition | None]:
        """Return those that expire behind a position, and after this moment at the earliest."""
        start = (snapshot.moment, _LAST_ID)
        if position is not None and position.expires_at is not None:
            start = max(start, (position.expires_at, position.transaction_id))
        rows = await snapshot.connection.fetch(
            self._sql["list_open_holds"], wallet_id, *start, limit + 1
        )
        page = rows[:limit]
        following = None
        if len(rows) > limit:
            following = HoldPosition(page[-1]["transaction_id"], page[-1]["expires_at"])
        return [row["transaction_id"] for row in page], following

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[_Snapshot]:
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            # The first statement takes the snapshot: nothing that it holds is younger than this.
            yield _Snapshot(connection, await connection.fetchval(self._sql["read_clock"]))
