"""Reading transactions: by id (gathered), by key, and in bounded lists."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from contracts.representations.transaction import Json, render_transaction
from contracts.requests.transaction import TransactionStatus, TransactionType
from ingress.reads.gathered import GatheredReads
from runtime.access.wallets import Holder
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries
from runtime.service.pagination import Examined, Window, examine

FEW_WALLETS: Final = 20
"""Wallets whose histories are walked side by side: each is read as far as the page needs."""
_EXCEPTIONAL: Final = frozenset(
    {TransactionStatus.FAILED, TransactionStatus.QUARANTINED, TransactionStatus.REVERSED}
)


class MetadataMember(NamedTuple):
    """A member of a transaction's metadata, its value as text."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class TransactionFilter:
    """What a list is narrowed to; ids stand for times."""

    wallet_id: UUID | None
    status: TransactionStatus | None
    type: TransactionType | None
    first_id: UUID
    metadata: MetadataMember | None = None


class TransactionStore:
    """Transactions as clients read them."""

    def __init__(self, pool: Pool, *, lists: Pool) -> None:
        """`lists` serves the lists alone: slow ones never take a submission's connection."""
        self._pool = pool
        self._lists = lists
        self._sql = load_queries("ingress")
        self._reads = GatheredReads(pool, self._sql["read_transactions"])

    async def run(self) -> None:
        """Read until cancelled."""
        await self._reads.run()

    def read_soon(self, transaction_id: UUID) -> "asyncio.Future[Sequence[asyncpg.Record | None]]":
        """Return what will hold the row of one transaction, for `render_transaction`.

        Reads of one instant share a query; None for an id that there is not.
        """
        return self._reads.read_soon(transaction_id)

    async def read_many(self, ids: Sequence[UUID], *, is_listed: bool = False) -> dict[UUID, Json]:
        """Return transactions by their ids; `is_listed`: for a page of a list."""
        rows = await self.rows(ids, is_listed=is_listed)
        return {transaction_id: render_transaction(row) for transaction_id, row in rows.items()}

    async def rows(
        self, ids: Sequence[UUID], *, is_listed: bool = False
    ) -> dict[UUID, asyncpg.Record]:
        """Return the rows of those that there are, for `render_transaction`."""
        pool = self._lists if is_listed else self._pool
        rows = await pool.fetch(self._sql["read_transactions"], ids) if ids else []
        return {row["id"]: row for row in rows}

    async def read_waiting(self, transaction_id: UUID, *, submitter: str) -> asyncpg.Record:
        """Return what a submitter's transaction waits for, for `render_processing`."""
        [row] = await self._lists.fetch(self._sql["read_waiting"], transaction_id, submitter)
        return row

    async def find(self, *, submitter: str, idempotency_key: str) -> UUID | None:
        """Return the id of a submitter's transaction under a key."""
        found: UUID | None = await self._pool.fetchval(
            self._sql["find_transaction_by_key"], submitter, idempotency_key
        )
        return found

    async def having(self, metadata: MetadataMember | None, ids: Sequence[UUID]) -> frozenset[UUID]:
        """Return those of some transactions that have a member of metadata; all for None."""
        if metadata is None or not ids:
            return frozenset(ids)
        rows = await self._lists.fetch(self._sql["find_with_metadata"], ids, *metadata)
        return frozenset(row["id"] for row in rows)

    async def list_page(
        self, wanted: TransactionFilter, *, before: UUID, limit: int
    ) -> Window[UUID]:
        """Return the ids of a page, the newest first, from the ids below `before`."""

        async def step(start: UUID, count: int) -> Examined[UUID]:
            return await self._narrowed(wanted, await self._examined(wanted, start, count))

        return await examine(step, start=before, limit=limit)

    async def list_seen(
        self, wanted: TransactionFilter, holder: Holder, *, before: UUID, limit: int
    ) -> Window[UUID]:
        """Return the same of what a holder submitted or what touches a wallet of theirs.

        The few wallets of a person are walked together; of a system that may have made a million,
        the walk is that of all transactions.
        """
        few = await self._few_wallets(holder)

        async def step(start: UUID, count: int) -> Examined[UUID]:
            if few:
                walked = await self._walk_few(wanted, few, start, count)
                return await self._narrowed(wanted, walked)
            found = await self._narrowed(wanted, await self._examined(wanted, start, count))
            matches = [one for one, is_match in found if is_match]
            rows = await self._lists.fetch(self._sql["find_seen"], matches, *holder)
            seen = {row["id"] for row in rows}
            return [(one, one in seen) for one, _ in found]

        return await examine(step, start=before, limit=limit)

    async def _examined(self, wanted: TransactionFilter, start: UUID, count: int) -> Examined[UUID]:
        name, subject = _walk(wanted)
        rows = await self._lists.fetch(
            self._sql[name], start, wanted.first_id, count, wanted.status, wanted.type, *subject
        )
        return [(row["id"], row["is_match"]) for row in rows]

    async def _narrowed(self, wanted: TransactionFilter, found: Examined[UUID]) -> Examined[UUID]:
        """Leave out of the matches what has other metadata than is wanted, or none."""
        if wanted.metadata is None:
            return found
        matches = [one for one, is_match in found if is_match]
        having = await self.having(wanted.metadata, matches)
        return [(one, one in having) for one, _ in found]

    async def _walk_few(
        self, wanted: TransactionFilter, few: Sequence[UUID], start: UUID, count: int
    ) -> Examined[UUID]:
        rows = await self._lists.fetch(
            self._sql["examine_few_wallets_transactions"],
            start,
            wanted.first_id,
            count,
            wanted.status,
            wanted.type,
            few,
        )
        return [(row["id"], row["is_match"]) for row in rows]

    async def _few_wallets(self, holder: Holder) -> list[UUID]:
        """Return the wallets of a person who has few; none for any other holder.

        A person's wallets are theirs for ever, so all that they submitted touches one of them.
        """
        if holder.owner_id is None:
            return []
        rows = await self._lists.fetch(self._sql["list_holders_wallets"], *holder, FEW_WALLETS + 1)
        return [row["id"] for row in rows] if len(rows) <= FEW_WALLETS else []


def _walk(wanted: TransactionFilter) -> tuple[str, tuple[UUID, ...]]:
    """Return the index to walk: the wallet's, the rare states', or the whole history's."""
    if wanted.wallet_id is not None:
        return "examine_wallet_transactions", (wanted.wallet_id,)
    if wanted.status in _EXCEPTIONAL:
        return "examine_exceptional_transactions", ()
    return "examine_transactions", ()
