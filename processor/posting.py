"""Posting: load, decide, write. One batch is one database transaction."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import structlog

from contracts.money import Money
from contracts.recording import RecordedRow, Submission, recorded_rows, recording_arguments
from contracts.tracing import trace_id_of
from contracts.transactions import TransactionType
from contracts.wallets import WalletKind, WalletStatus
from processor.failures import InterruptedPostingError
from processor.ledger import REFUSAL_DETAILS, PendingTransaction, Posting, Wallet, post
from runtime.database import Connection, Pool
from runtime.fault_points import NO_FAULTS, FaultPoint, FaultPoints
from runtime.queries import load_queries

ACQUIRE_TIMEOUT_S: Final = 10.0
"""For a connection, and to give it back: the library waits for ever by default."""

log = structlog.get_logger()


class PostingMismatchError(Exception):
    """The database changed other rows than were locked; the batch was undone."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item: the transaction it stands for, or a reused idempotency key."""

    transaction_id: UUID
    is_key_reused: bool = False


Item: TypeAlias = UUID | Submission
"""What is to be posted: a recorded row by its id, or a submission that is not recorded yet."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A committed batch: an outcome for each item, in their order, and what was decided."""

    outcomes: list[Outcome]
    posting: Posting


class Poster:
    """Posts batches of items, each batch in one commit, in the order of its items."""

    def __init__(self, pool: Pool, *, fault_points: FaultPoints = NO_FAULTS) -> None:
        self._pool = pool
        self._fault_points = fault_points
        self._sql = load_queries("processor")
        self._under_way: set[asyncio.Task[BatchResult]] = set()

    async def post(self, items: Sequence[Item]) -> BatchResult:
        """Commit the effect of all items at once; raises what the database raises, then nothing is.

        Items that are not PENDING any more are left as they are: a batch may run twice. The commit
        is never cancelled in its middle. After a lost connection, a timeout or an
        InterruptedPostingError nobody knows whether it happened: post again.
        """
        # A task of its own: whoever waits may be cancelled, a commit under way may not.
        posting = asyncio.ensure_future(self._post(items))
        self._under_way.add(posting)
        posting.add_done_callback(self._forget)
        try:
            return await asyncio.shield(posting)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is None or caller.cancelling():
                raise
            raise InterruptedPostingError("posting was cancelled, perhaps in its commit") from None

    async def quarantine(
        self, item: Item, *, bury: Callable[[UUID | None], Awaitable[None]]
    ) -> UUID | None:
        """Set one item aside and return its id; None where it has no row or is not PENDING.

        `bury` is called before the commit: a transaction in quarantine has its dead letter. If
        the commit fails then, the letter comes twice.
        """
        async with self._database_transaction() as connection:
            outcome = (await self._record(connection, [item]))[0]
            # A key that stands for other content names a transaction that did nothing wrong.
            is_quarantined = not outcome.is_key_reused and await connection.fetchval(
                self._sql["quarantine"], outcome.transaction_id
            )
            transaction_id = outcome.transaction_id if is_quarantined else None
            await bury(transaction_id)
        return transaction_id

    def _forget(self, posting: "asyncio.Task[BatchResult]") -> None:
        """Let go of a posting, which nobody may have waited for to its end."""
        self._under_way.discard(posting)
        if not posting.cancelled() and (error := posting.exception()) is not None:
            log.debug("posting_failed", error=repr(error))

    @asynccontextmanager
    async def _database_transaction(self) -> AsyncIterator[Connection]:
        """A database transaction, on a connection that is given up if its server falls silent."""
        async with (
            self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection,
            connection.transaction(),
        ):
            try:
                yield connection
            except TimeoutError:
                # Undoing the work politely would wait for the silent server a second time.
                connection.terminate()
                raise

    async def _post(self, items: Sequence[Item]) -> BatchResult:
        async with self._database_transaction() as connection:
            outcomes = await self._record(connection, items)
            wanted = [outcome.transaction_id for outcome in outcomes if not outcome.is_key_reused]
            rows = await self._lock_pending(connection, wanted)
            pending = [_pending_transaction(row) for row in rows]
            wallets, changed_at = await self._lock_wallets(connection, pending)
            posting = post(wallets, pending)
            await self._write(connection, posting, changed_at)
            await self._fault_points.reach(FaultPoint.PROCESSOR_BEFORE_COMMIT)
        for row in rows:
            _tell_trace(row)
        return BatchResult(outcomes=outcomes, posting=posting)

    async def _record(self, connection: Connection, items: Sequence[Item]) -> list[Outcome]:
        """Give each submission its row, and each item its outcome."""
        submissions = [item for item in items if isinstance(item, Submission)]
        if not submissions:
            return [Outcome(item) for item in items if isinstance(item, UUID)]
        rows = await connection.fetch(
            self._sql["record_transactions"], *recording_arguments(submissions)
        )
        recorded = iter(recorded_rows(rows, len(submissions)))
        return [
            Outcome(item) if isinstance(item, UUID) else _outcome(next(recorded)) for item in items
        ]

    async def _lock_pending(
        self, connection: Connection, wanted: Sequence[UUID]
    ) -> list[asyncpg.Record]:
        """Lock what is still PENDING, in id order, and return it in the wanted order."""
        order = list(dict.fromkeys(wanted))
        rows = await connection.fetch(self._sql["lock_pending"], order)
        by_id = {row["id"]: row for row in rows}
        return [by_id[transaction_id] for transaction_id in order if transaction_id in by_id]

    async def _lock_wallets(
        self, connection: Connection, pending: Sequence[PendingTransaction]
    ) -> tuple[list[Wallet], datetime | None]:
        """Lock the wallets of a batch, in id order; also return the latest change among them."""
        ids = _wallet_ids(pending)
        rows = await connection.fetch(self._sql["lock_wallets"], ids) if ids else []
        latest = max((row["updated_at"] for row in rows), default=None)
        return [_wallet(row) for row in rows], latest

    async def _write(
        self, connection: Connection, posting: Posting, changed_at: datetime | None
    ) -> None:
        if not posting.posted and not posting.refused:
            return
        written = await connection.fetchrow(
            self._sql["write_posting"], changed_at, *_writing_arguments(posting)
        )
        expected = {
            "wallets": len(posting.wallets),
            "completed": len(posting.posted),
            "failed": len(posting.refused),
            "entries": len(posting.entries),
        }
        found = {name: written[name] for name in expected} if written else {}
        if found != expected:
            raise PostingMismatchError(f"expected {expected}, the database changed {found}")


def _outcome(recorded: RecordedRow) -> Outcome:
    return Outcome(recorded.id, is_key_reused=not recorded.is_same)


def _wallet_ids(pending: Iterable[PendingTransaction]) -> list[UUID]:
    ids: set[UUID] = set()
    for transaction in pending:
        ids.add(transaction.source_wallet_id)
        ids.add(transaction.destination_wallet_id)
    return list(ids)


def _pending_transaction(row: asyncpg.Record) -> PendingTransaction:
    return PendingTransaction(
        id=row["id"],
        type=TransactionType(row["type"]),
        source_wallet_id=row["source_wallet_id"],
        destination_wallet_id=row["destination_wallet_id"],
        money=Money(row["amount"], row["currency"]),
    )


def _wallet(row: asyncpg.Record) -> Wallet:
    return Wallet(
        id=row["id"],
        kind=WalletKind(row["kind"]),
        currency=row["currency"],
        status=WalletStatus(row["status"]),
        balance=row["balance"],
        held=row["held"],
        overdraft_limit=row["overdraft_limit"],
        version=row["version"],
    )


def _tell_trace(row: asyncpg.Record) -> None:
    """Say that a transaction is committed, under the request and trace id that it came with."""
    trace_id = None if row["traceparent"] is None else trace_id_of(row["traceparent"])
    log.debug(
        "transaction_committed",
        transaction_id=str(row["id"]),
        request_id=row["request_id"] or trace_id,
        trace_id=trace_id,
    )


def _writing_arguments(posting: Posting) -> tuple[list[Any], ...]:
    """Return the arrays of `write_posting` behind its first argument, in their order."""
    wallets, posted, refused, entries = (
        posting.wallets,
        posting.posted,
        posting.refused,
        posting.entries,
    )
    return (
        [wallet.id for wallet in wallets],
        [wallet.balance for wallet in wallets],
        [wallet.version for wallet in wallets],
        [done.transaction_id for done in posted],
        [done.source_sequence for done in posted],
        [done.destination_sequence for done in posted],
        [refusal.transaction_id for refusal in refused],
        [refusal.code.value for refusal in refused],
        [REFUSAL_DETAILS[refusal.code] for refusal in refused],
        [entry.wallet_id for entry in entries],
        [entry.sequence for entry in entries],
        [entry.transaction_id for entry in entries],
        [entry.amount for entry in entries],
        [entry.balance_after for entry in entries],
    )
