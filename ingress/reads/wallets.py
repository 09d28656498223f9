"""Wallets in the database, with their histories and their holds."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg

from contracts.identifiers import external_wallet_id
from contracts.problems import ContractError, ProblemCode
from contracts.requests.transaction import TransactionType, fingerprint_of_json
from contracts.requests.wallet import RequestedKind, ValidWalletRequest, WalletStatus
from ingress.reads.gathered import WORKERS, GatheredReads
from ledger.words import HoldStatus
from runtime.access.wallets import Holder
from runtime.postgres.pool import ACQUIRE_TIMEOUT_S, Connection, Pool
from runtime.postgres.queries import load_queries
from runtime.service.batcher import MicroBatcher
from runtime.service.pagination import Examined, Window, examine

_MICROSECOND: Final = timedelta(microseconds=1)
_LAST_ID: Final = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Created:
    """A wallet, and whether this request made it; `is_same` is False for other content."""

    row: asyncpg.Record
    is_new: bool
    is_same: bool = True


@dataclass(frozen=True, slots=True)
class WalletFilter:
    """What a list of wallets is narrowed to; deleted ones are left out unless they are wanted."""

    owner_id: str | None
    currency: str | None
    status: WalletStatus | None
    kind: RequestedKind | None = None
    is_deleted_wanted: bool = False


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """What a wallet's history is narrowed to: from (included) to (excluded), and a type."""

    start: datetime | None
    end: datetime | None
    type: TransactionType | None


ALL_ENTRIES: Final = EntryFilter(None, None, None)


class EntryPage(NamedTuple):
    """The newest entries of a wallet between two of its sequences, and how many at the most."""

    wallet_id: UUID
    below: int
    above: int
    most: int


Entries: TypeAlias = Sequence[asyncpg.Record]
PAGES_MAX: Final = 16
"""Pages that are read by one query: some three thousand entries, ten milliseconds."""
PAGES_WAITING_MAX: Final = 2_000
SEQUENCE_MAX: Final = 2**63 - 1
"""Behind the newest entry of any wallet."""


class WalletStore:
    """Wallets as clients read and change them."""

    def __init__(self, pool: Pool, *, lists: Pool) -> None:
        """`lists` serves lists and changes: what may wait never takes a submission's connection."""
        self._pool = pool
        self._lists = lists
        self._sql = load_queries("ingress")
        self._reads = GatheredReads(pool, self._sql["read_wallets"])
        self._pages: MicroBatcher[EntryPage, Entries] = MicroBatcher(
            self._read_pages,
            group_max=PAGES_MAX,
            waiting_max=PAGES_WAITING_MAX,
            workers=WORKERS,
            # As long as anybody waits for a connection.
            patience_s=ACQUIRE_TIMEOUT_S,
        )

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reads.run())
            group.create_task(self._pages.run())

    async def create(
        self,
        wanted: ValidWalletRequest,
        *,
        submitter: str,
        idempotency_key: str | None,
        per_owner_max: int | None = None,
    ) -> Created:
        """Create a wallet, or return the one that the same request created before.

        `per_owner_max`: how many open wallets in the currency its owner may have with it; raises
        ContractError for one more.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                self._sql["insert_external_wallet"],
                external_wallet_id(wanted.currency),
                wanted.currency,
            )
            if idempotency_key is None:
                await self._check_number(connection, wanted, per_owner_max)
                row = await self._insert(connection, None, wanted, submitter)
                return Created(row, is_new=True)
            fingerprint = _fingerprint(wanted)
            wallet_id = await connection.fetchval(
                self._sql["insert_wallet_request"], submitter, idempotency_key, fingerprint
            )
            if wallet_id is not None:
                await self._check_number(connection, wanted, per_owner_max)
                row = await self._insert(connection, wallet_id, wanted, submitter)
                return Created(row, is_new=True)
            claimed = await connection.fetchrow(
                self._sql["read_wallet_request"], submitter, idempotency_key
            )
            if claimed is None:
                raise AssertionError("a key that conflicts was claimed")
            made = await connection.fetchrow(self._sql["read_wallet"], claimed["wallet_id"])
            if made is None:
                raise AssertionError("a claimed key has its wallet")
            return Created(made, is_new=False, is_same=claimed["fingerprint"] == fingerprint)

    def read_soon(self, wallet_id: UUID) -> "asyncio.Future[Sequence[asyncpg.Record | None]]":
        """Return what will hold one wallet as it is now; `run` reads it."""
        return self._reads.read_soon(wallet_id)

    async def read(self, wallet_id: UUID) -> asyncpg.Record | None:
        """Return one wallet as it is now."""
        [row] = await self.read_soon(wallet_id)
        return row

    async def lock(self, connection: Connection, wallet_id: UUID) -> asyncpg.Record | None:
        """Return one wallet, locked until the database transaction ends."""
        await connection.execute(self._sql["lock_wallet"], wallet_id)
        return await connection.fetchrow(self._sql["read_wallet"], wallet_id)

    async def change(
        self, connection: Connection, wallet_id: UUID, state: tuple[str, int, str | None]
    ) -> asyncpg.Record | None:
        """Write status, overdraft limit (minor units) and metadata (JSON) of a locked wallet."""
        return await connection.fetchrow(self._sql["change_wallet"], wallet_id, *state)

    async def delete(self, connection: Connection, wallet_id: UUID) -> None:
        """Close a locked wallet, and hide it from lists."""
        await connection.execute(self._sql["delete_wallet"], wallet_id)

    async def list_page(
        self, wanted: WalletFilter, *, after: UUID, limit: int, holder: Holder | None = None
    ) -> tuple[list[asyncpg.Record], UUID | None]:
        """Return a page of wallets, the oldest first, and where the next one starts.

        Of all wallets, or of those of a holder.
        """
        name, subject = _walk(wanted, holder)

        async def step(start: UUID, count: int) -> Examined[UUID]:
            rows = await self._lists.fetch(
                self._sql[name],
                start,
                count,
                wanted.currency,
                wanted.status,
                wanted.kind,
                wanted.is_deleted_wanted,
                *subject,
            )
            return [(row["id"], row["is_match"]) for row in rows]

        window = await examine(step, start=after, limit=limit)
        rows = await self._lists.fetch(self._sql["read_wallets"], window.matches)
        by_id = {row["id"]: row for row in rows}
        return [by_id[one] for one in window.matches if one in by_id], window.next_start

    async def list_entries(
        self, wallet_id: UUID, wanted: EntryFilter, *, before: int | None, limit: int
    ) -> tuple[Sequence[asyncpg.Record], int | None]:
        """Return a page of a wallet's entries, the newest first, and where the next one starts."""
        floor = await self._sequence_before(wallet_id, wanted.start)
        if before is None:
            last = await self._sequence_before(wallet_id, wanted.end, default=SEQUENCE_MAX - 1)
            before = last + 1
        if wanted.type is None:
            # All of them match: one query reads the page, and whether there is another.
            [newest] = await self.entries_soon(EntryPage(wallet_id, before, floor, limit + 1))
            return page_of(newest, limit=limit)

        async def step(start: int, count: int) -> Examined[int]:
            rows = await self._lists.fetch(
                self._sql["examine_entries"], wallet_id, start, floor, count, wanted.type
            )
            return [(row["sequence"], row["is_match"]) for row in rows]

        window: Window[int] = await examine(step, start=before, limit=limit)
        rows = await self._lists.fetch(self._sql["read_entries"], wallet_id, window.matches)
        by_sequence = {row["sequence"]: row for row in rows}
        return [by_sequence[one] for one in window.matches], window.next_start

    def entries_soon(self, page: EntryPage) -> "asyncio.Future[Sequence[Entries]]":
        """Return what will hold a page of entries; pages of one instant share a query.

        No entries of a wallet that there is not. Raises BatcherFullError.
        """
        return self._pages.submit([page])

    async def _read_pages(self, asked: list[EntryPage]) -> Sequence[Entries]:
        found: dict[EntryPage, list[asyncpg.Record]] = {one: [] for one in asked}
        columns = [list(column) for column in zip(*found, strict=True)]
        by_number = list(found.values())
        for row in await self._lists.fetch(self._sql["read_entry_pages"], *columns):
            by_number[row[0] - 1].append(row)
        return [found[one] for one in asked]

    async def read_balance(self, wallet_id: UUID, at: datetime) -> int:
        """Return the wallet's balance at a moment, in minor units."""
        balance = await self._pool.fetchval(self._sql["read_balance_at"], wallet_id, at)
        return int(balance or 0)

    async def read_clock(self) -> datetime:
        """Return the database's time."""
        now: datetime = await self._pool.fetchval(self._sql["read_clock"])
        return now

    def acquire(self) -> "asyncpg.pool.PoolAcquireContext[asyncpg.Record]":
        """Return a connection for a change of several steps, which waits for the wallet's lock."""
        return self._lists.acquire()

    async def _check_number(
        self, connection: Connection, wanted: ValidWalletRequest, most: int | None
    ) -> None:
        """Raise ContractError where the owner has as many wallets as allowed; others wait."""
        if most is None:
            return
        # What those commit for whom the lock waited is seen by the next statement.
        await connection.execute(
            self._sql["lock_owner_and_currency"], wanted.owner_id, wanted.currency
        )
        count = await connection.fetchval(
            self._sql["count_owner_wallets"], wanted.owner_id, wanted.currency, most
        )
        if count >= most:
            plural = "wallet" if most == 1 else "wallets"
            raise ContractError(
                ProblemCode.WALLET_LIMIT_REACHED,
                f"an owner has at most {most} {plural} in {wanted.currency}",
            )

    async def _insert(
        self,
        connection: Connection,
        wallet_id: UUID | None,
        wanted: ValidWalletRequest,
        submitter: str,
    ) -> asyncpg.Record:
        row = await connection.fetchrow(
            self._sql["insert_wallet"],
            wallet_id,
            wanted.owner_id,
            wanted.currency,
            wanted.kind,
            wanted.overdraft_limit,
            wanted.metadata.decode(),
            submitter,
        )
        if row is None:
            raise AssertionError("an insert returns its row")
        return row

    async def _sequence_before(
        self, wallet_id: UUID, moment: datetime | None, default: int = 0
    ) -> int:
        """Return the last sequence before a moment."""
        if moment is None:
            return default
        found: int = await self._lists.fetchval(
            self._sql["read_last_sequence"], wallet_id, moment - _MICROSECOND
        )
        return found


def page_of(newest: Entries, *, limit: int) -> tuple[Entries, int | None]:
    """Return a page of entries, of which one more was read, and where the next one starts."""
    page = newest[:limit]
    return page, page[-1]["sequence"] if len(newest) > limit else None


def _walk(wanted: WalletFilter, holder: Holder | None) -> tuple[str, tuple[str | None, ...]]:
    """Return the index to walk: the holder's wallets', the owner's, or all of them."""
    if holder is not None:
        return "examine_holders_wallets", (*holder, wanted.owner_id)
    if wanted.owner_id is not None:
        return "examine_owner_wallets", (wanted.owner_id,)
    return "examine_wallets", ()


def _fingerprint(wanted: ValidWalletRequest) -> bytes:
    content: list[object] = [
        wanted.currency,
        wanted.owner_id,
        wanted.overdraft_limit,
        wanted.metadata.decode(),
    ]
    if wanted.kind is not RequestedKind.CUSTOMER:
        # A customer's wallet keeps the fingerprint that it had before there were other kinds.
        content.append(wanted.kind)
    return fingerprint_of_json(content)


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
