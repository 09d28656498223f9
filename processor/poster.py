"""Posting a batch: read, decide, write. One batch is one database transaction.

Two ways lead through. Optimistic, the usual one: what a batch rests on is remembered or was read
ahead, without locks, and one statement writes it over exactly those rows; behind a batch that is
being written, it is sent before that one is committed. Locked, where something is not known or the
rows are others: read and locked, wallets in id order, then written.
"""

import asyncio
import logging
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import structlog

from contracts.identifiers import trace_id_of
from contracts.record import Submission
from ledger.state import BookPosting, Movement, Posting
from processor.book import LONG_AGO, BookPoster, PostedBook
from processor.deciding import (
    Decided,
    VersionedWallet,
    WalletCache,
    Writing,
    decide_batch,
    wallet_ids_of,
    wallet_of,
)
from processor.events.buffer import RECENT_MAX, BufferedBatch, EventBuffer
from processor.events.owed import owed_by_moves
from processor.intake import BatchReader, Item, ItemOutcome, ItemRecord, PendingBatch
from processor.metrics import note_endings
from processor.restrictions import BatchScreening, Permissions, Screener
from processor.traces import PostingTraces
from processor.writing import ACQUIRE_TIMEOUT_S, FEW_MAX, MoveWriter, Turn, may_follow
from runtime.postgres.pool import Connection, Lane, Pool
from runtime.postgres.queries import load_queries
from runtime.resilience.error_classification import InterruptedPostingError, PostingMismatchError
from runtime.screening.watch import CurrentRules
from runtime.service.fault_points import FaultPoint, FaultPoints

Result = TypeVar("Result")

log = structlog.get_logger()


@dataclass(slots=True)
class Loaded:
    """A batch as it was read, without locks or with them, and what it is decided on."""

    batch: PendingBatch
    wallets: Mapping[UUID, VersionedWallet]
    """Those of its wallets that no batch before had left in memory."""
    decided: Decided | None = None
    """What it comes to, where that was decided ahead."""
    ahead: "asyncio.Task[BatchResult | None] | None" = None
    """Its commit, where it was sent ahead; None where its turn did not come."""
    turn: Turn | None = None
    """Its turn, where all of it is, or was, written in one."""
    writing_ns: int = 0
    """When it began to be written."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A committed batch: an outcome for each item, in their order, and what was decided."""

    outcomes: list[ItemRecord]
    posting: Posting | BookPosting
    is_partial: bool = False
    """Whether some items are still to be posted: other transactions went first. Post again."""


class Poster:
    """Posts batches of items, each batch in one commit, in the order of its items."""

    def __init__(
        self,
        pool: Pool,
        *,
        partition: int = 0,
        partitions: int = 1,
        event_buffer: EventBuffer | None = None,
        wallet_cache: WalletCache | None = None,
        permissions: Permissions | None = None,
        rules: CurrentRules | None = None,
        fault_points: FaultPoints | None = None,
        traces: PostingTraces | None = None,
        few_max: int = FEW_MAX,
    ) -> None:
        """Post what belongs to a partition, and record what belongs to another of so many.

        `event_buffer` is told of what was posted, for a relay that makes room in it. `rules` are
        kept current by others; without them they are read when a write finds that there are any.
        Behind `few_max` transactions none are sent ahead, and so few of upstream's are recorded
        before they are posted.

        A poster that has wallets in `wallet_cache` writes them without having locked them in id
        order: of two that post to the same wallets at once, give it to neither, or they deadlock.
        """
        self._pool = pool
        self._writer = MoveWriter(pool, fault_points=fault_points, few_max=few_max)
        # The next batch, while one is written.
        self._reading = Lane(pool, timeout_s=ACQUIRE_TIMEOUT_S)
        self._few_max = few_max
        self._partition = partition
        self._partitions = partitions
        self._event_buffer = event_buffer
        self._wallet_cache = wallet_cache or WalletCache(generation_max=0)
        self._fault_points = fault_points
        self._traces = traces or PostingTraces()
        permissions = permissions or Permissions()
        self._reader = BatchReader(
            partition,
            partitions=partitions,
            permissions=permissions,
            is_with_wallets=self._wallet_cache.is_on,
        )
        self._rules = rules or CurrentRules()
        self._screener = Screener(self._rules)
        self._book = BookPoster(partition, self._reader, permissions, self._screener)
        self._sql = load_queries("processor")
        self._changed_at = LONG_AGO
        self._under_way: set[asyncio.Task[Any]] = set()

    def may_load(self, items: Sequence[Item], *, behind: Loaded) -> bool:
        """Whether a batch may be loaded while the one that it stands behind is not written.

        Drafts have no rows yet: what has a key of theirs would be recorded before them.
        """
        drafts = behind.batch.drafts
        return drafts is None or not drafts.have_key_of(items)

    async def load(self, items: Sequence[Item], *, behind: Loaded | None = None) -> Loaded:
        """Record what is not recorded, and read what it rests on, before its turn has come.

        It does not wait for the batches before, nor hold any lock: `post` finds out if something
        changed. So the database reads one batch while it writes another: the one that it stands
        `behind`, without which it is not posted; `may_load` says whether it may.
        """
        in_hand = () if behind is None else behind.batch.rows.keys()
        async with self._reading.use() as connection:
            batch = await self._reader.read(
                connection, items, in_hand=in_hand, draft_above=self._draft_above
            )
            if batch.earlier:
                await self._reader.forget_posted(connection)
            loaded = Loaded(batch, self._found(batch.wallets))
            if self._wallet_cache.is_on and not batch.is_on_book:
                _, unknown = self._wallet_cache.find(wallet_ids_of(batch.pending))
                loaded.wallets = await self._wallets(connection, loaded, unknown, "read_wallets")
            return loaded

    def decide_ahead(self, loaded: Loaded, *, behind: Loaded) -> None:
        """Decide the batch behind the one that is being written, on the wallets that it leaves.

        It is sent at once, where the server can let it wait for that commit: not behind a part of
        that batch, whose rest would come after it. If that one is not written after all, this one
        is decided again when its turn comes.
        """
        if not self._wallet_cache.is_ahead:
            return
        loaded.decided = decided = self._decide(loaded)
        turn = None if behind.batch.is_partial else behind.turn
        if decided is None or turn is None or not may_follow(decided, turn) or not self._has_room:
            return
        loaded.ahead = self._begun(self._send_ahead(loaded, decided, turn))

    async def post(self, items: Sequence[Item], *, loaded: Loaded | None = None) -> BatchResult:
        """Commit the effect of all items at once; raises what the database raises, then nothing is.

        Items that are not PENDING any more are left as they are: a batch may run twice. The commit
        is never cancelled in its middle. After a lost connection, a timeout or an
        InterruptedPostingError nobody knows whether it happened: post again. `loaded` is what
        `load` returned for the same items.
        """
        # A task of its own: whoever waits may be cancelled, a commit under way may not.
        try:
            return await asyncio.shield(self._begun(self._post(items, loaded)))
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is None or caller.cancelling():
                raise
            raise InterruptedPostingError("posting was cancelled, perhaps in its commit") from None

    async def earlier_than(self, item: Item) -> Sequence[UUID]:
        """Return what is posted with an item because it was accepted before it, by their ids."""
        async with self._reading.use() as connection:
            return (await self._reader.read(connection, [item])).earlier

    async def quarantine(
        self, item: Item, *, bury: Callable[[UUID | None], Awaitable[None]]
    ) -> UUID | None:
        """Set one item aside and return its id; None where it has no row or is not PENDING.

        `bury` is called before the commit: a transaction in quarantine has its dead letter. If
        the commit fails then, the letter comes twice.
        """
        async with self._database_transaction() as connection:
            outcome = await self._reader.record(connection, item)
            transaction_id = None
            # A key that stands for other content names a transaction that did nothing wrong.
            if isinstance(outcome, ItemOutcome) and not outcome.is_key_reused:
                transaction_id = await connection.fetchval(
                    self._sql["quarantine"], outcome.transaction_id
                )
            await bury(transaction_id)
        return transaction_id

    async def _post(self, items: Sequence[Item], loaded: Loaded | None) -> BatchResult:
        ahead = None if loaded is None else loaded.ahead
        if loaded is not None and ahead is not None:
            loaded.ahead = None
            sent_ahead = await ahead
            if sent_ahead is not None:
                return sent_ahead
        if self._event_buffer is not None and not self._has_room:
            await self._event_buffer.room()
        try:
            if loaded is None and not any(isinstance(item, Submission) for item in items):
                loaded = await self.load(items)
            return await self._post_optimistic(loaded) or await self._post_locked(items, loaded)
        except PostingMismatchError as error:
            # Somebody changed one of them since it was read. With the rows locked nobody can.
            log.info("batch_changed_meanwhile", error=str(error))
            self._wallet_cache.clear()
            return await self._post_locked(items, None, is_locked=True)

    async def _post_optimistic(self, loaded: Loaded | None) -> BatchResult | None:
        """Commit with one statement where all is known that it rests on; None where it is not."""
        if loaded is None:
            return None
        if loaded.batch.drafts is not None and loaded.batch.drafts.are_old:
            if loaded.decided is not None:
                # What is remembered is what it would have left.
                self._wallet_cache.clear()
            return None
        decided = loaded.decided or self._decide(loaded)
        return None if decided is None else await self._write(loaded, decided)

    async def _write(
        self, loaded: Loaded, decided: Decided, *, behind: Turn | None = None
    ) -> BatchResult:
        """Write what was decided without locks; `behind` a batch that is still being written."""
        loaded.writing_ns = time.time_ns()
        turn = loaded.turn = self._writer.turn_of(decided, behind=behind)
        try:
            written = await self._writer.write(
                decided,
                turn,
                latest_change=self._changed_at,
                behind=behind,
                drafts=loaded.batch.drafts,
            )
            if behind is not None:
                # Events are told in the order of the commits, and so these are noted.
                await behind.over.wait()
                if behind.writing.row_version is None:
                    # It is committed, or this one were not, and nobody has heard of it.
                    self._note_others()
            return await self._committed(loaded, decided, written)
        finally:
            turn.over.set()

    async def _send_ahead(
        self, loaded: Loaded, decided: Decided, behind: Turn
    ) -> BatchResult | None:
        """Write a batch behind another one; None where that one was not written just before it."""
        try:
            return await self._write(loaded, decided, behind=behind)
        except (PostingMismatchError, asyncpg.LockNotAvailableError) as error:
            # Or it did not come within the bound of a wait for a lock.
            log.info("turn_missed", error=str(error))
            return None

    async def _post_locked(
        self, items: Sequence[Item], loaded: Loaded | None, *, is_locked: bool = False
    ) -> BatchResult:
        async with self._database_transaction() as connection:
            if loaded is None or loaded.batch.drafts is not None:
                batch = await self._reader.read(connection, items, is_locked=is_locked)
                loaded = Loaded(batch, self._found(batch.wallets))
            loaded.writing_ns = time.time_ns()
            if is_locked:
                await self._screener.read_rules(connection)
            decided = screened = None
            batch = loaded.batch
            if not batch.is_on_book:
                known = await self._locked_wallets(connection, loaded)
                screened = await self._screener.begin_moves(connection, batch.pending, batch.rows)
                decided = self._decide_on(known, batch, screened)
            committed: Callable[[], Awaitable[BatchResult]]
            if decided is None:
                on_book = await self._book.post(
                    connection, batch.in_order, batch.terms, self._changed_at
                )
                committed = partial(self._committed_on_book, loaded, on_book)
            else:
                written = await self._writer.write_on(
                    connection, decided, latest_change=self._changed_at
                )
                if screened is not None:
                    await self._screener.write(connection, screened, decided.posting.held)
                committed = partial(self._committed, loaded, decided, written)
            if self._fault_points is not None:
                await self._fault_points.reach(FaultPoint.PROCESSOR_BEFORE_COMMIT)
        return await committed()

    async def _locked_wallets(
        self, connection: Connection, loaded: Loaded
    ) -> dict[UUID, VersionedWallet]:
        """Return what is known of wallets, and the others locked."""
        known, missing = self._wallet_cache.find(wallet_ids_of(loaded.batch.pending))
        return known | await self._wallets(connection, loaded, missing, "lock_wallets")

    async def _wallets(
        self, connection: Connection, loaded: Loaded, wallet_ids: Sequence[UUID], query: str
    ) -> dict[UUID, VersionedWallet]:
        """Return those that exist of wallets that no batch before has left in memory.

        Those that were read with a batch are taken from there; `query` reads the others.
        """
        read = {one: loaded.wallets[one] for one in wallet_ids if one in loaded.wallets}
        unread = [one for one in wallet_ids if one not in read]
        rows = await connection.fetch(self._sql[query], unread) if unread else []
        return read | self._found(rows)

    def _found(self, rows: Iterable[Iterable[Any]]) -> dict[UUID, VersionedWallet]:
        found: dict[UUID, VersionedWallet] = {}
        for row in rows:
            wallet, row_version, changed_at = wallet_of(row)
            found[wallet.id] = VersionedWallet(wallet, Writing(row_version))
            self._changed_at = max(self._changed_at, changed_at)
        return found

    def _decide(self, loaded: Loaded) -> Decided | None:
        """Decide without locks; None where that cannot be done, or there is nothing to do.

        Terms are decided under locks, and so is all that rules screen.
        A wallet that was not there when it was looked for may have come since, and a refusal could
        not name the row that it rests on: with a lock it is looked for again.
        """
        if not loaded.batch.pending or loaded.batch.is_on_book or self._screener.is_on:
            return None
        known, missing = self._wallet_cache.find(wallet_ids_of(loaded.batch.pending))
        # What a batch before has left since is newer than what was read.
        read = {one: loaded.wallets[one] for one in missing if one in loaded.wallets}
        if len(read) < len(missing):
            return None
        return self._decide_on(known | read, loaded.batch)

    def _decide_on(
        self,
        known: Mapping[UUID, VersionedWallet],
        batch: PendingBatch,
        screened: BatchScreening | None = None,
    ) -> Decided | None:
        """Decide on these wallets; None where a refusal may rest on a hold that has expired.

        Whoever can pay without what is held can pay in any case, however much of it is free again.
        """
        decided = decide_batch(
            known,
            batch.pending,
            rules_version=self._rules.book.version,
            screening=None if screened is None else screened.screening,
        )
        if decided.posting.refused and any(one.wallet.held for one in known.values()):
            return None
        self._wallet_cache.keep(decided.posting.wallets, decided.writing)
        return decided

    async def _committed_on_book(self, loaded: Loaded, on_book: PostedBook) -> BatchResult:
        """Forget what others may remember of these wallets, and tell as of any batch."""
        posting = on_book.posting
        self._note_others()
        if self._event_buffer is not None and on_book.completed_outbox_id is not None:
            self._event_buffer.keep(on_book.completed_outbox_id, on_book.views)
        self._wallet_cache.drop(wallet.id for wallet in posting.wallets)
        self._changed_at = max(self._changed_at, posting.moment)
        note_endings(on_book.rows, posting, posting.moment, is_traced=self._traces.is_on)
        return await self._told(loaded, posting)

    async def _committed(
        self, loaded: Loaded, decided: Decided, written: asyncpg.Record | None
    ) -> BatchResult:
        batch = loaded.batch
        if written is None or len(batch.pending) - len(batch.earlier) < len(batch.outcomes):
            # Some were posted before, perhaps by a commit that nobody has heard of.
            self._note_others()
        if written is not None:
            self._remember(loaded, decided, written)
            note_endings(
                batch.rows, decided.posting, written["moment"], is_traced=self._traces.is_on
            )
        return await self._told(loaded, decided.posting)

    async def _told(self, loaded: Loaded, posting: Posting | BookPosting) -> BatchResult:
        batch = loaded.batch
        if log.is_enabled_for(logging.DEBUG):
            await self._tell_traces(batch.pending)
        if self._traces.is_on:
            self._traces.posted(
                batch.in_order, posting, began_ns=batch.began_ns, writing_ns=loaded.writing_ns
            )
        self._reader.note_posted(batch)
        return BatchResult(batch.outcomes, posting, batch.is_partial)

    def _remember(self, loaded: Loaded, decided: Decided, written: asyncpg.Record) -> None:
        """Keep what a commit has left for the next batch and for the relay."""
        decided.writing.row_version = written["row_version"]
        self._changed_at = max(self._changed_at, written["moment"])
        if self._event_buffer is None:
            return
        posting = decided.posting
        if posting.refused:
            # Their events are owed by a row of their own.
            self._note_others()
        if posting.posted:
            outbox_id = written["completed_outbox_id"]
            ids = [one.transaction_id for one in posting.posted]
            batch = BufferedBatch(loaded.batch.rows, posting.posted, written["moment"])
            owed = owed_by_moves(outbox_id, ids, written["moment"], decided.limits)
            self._event_buffer.keep(outbox_id, batch, owed=owed)

    async def _tell_traces(self, pending: Sequence[Movement]) -> None:
        """Say what is committed, under the request and the trace id that each came with.

        It is committed: whatever fails here costs lines of a log, never the batch.
        """
        try:
            async with self._reading.use() as connection:
                rows = await connection.fetch(self._sql["read_traces"], [one.id for one in pending])
        except Exception as error:  # noqa: BLE001  # see above
            log.warning("traces_not_told", transactions=len(pending), error=repr(error))
            return
        for row in rows:
            trace_id = None if row["traceparent"] is None else trace_id_of(row["traceparent"])
            log.debug(
                "transaction_committed",
                transaction_id=str(row["id"]),
                request_id=row["request_id"] or trace_id,
                trace_id=trace_id,
            )

    def _note_others(self) -> None:
        """Have the relay look in the table: events that are not in memory may come first."""
        if self._event_buffer is not None:
            self._event_buffer.has_others = True

    @property
    def _draft_above(self) -> int | None:
        """Above how many moves they may be decided before they have a row, if they may at all.

        They are written without locks then. With several partitions each records what another one
        posts.
        """
        may_draft = self._partitions == 1 and self._wallet_cache.is_on and not self._screener.is_on
        return self._few_max if may_draft else None

    @property
    def _has_room(self) -> bool:
        """Whether the relay is not too far behind."""
        return self._event_buffer is None or self._event_buffer.size < RECENT_MAX

    def _begun(self, posting: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        """Begin a posting, whoever waits for it."""
        task = asyncio.ensure_future(posting)
        self._under_way.add(task)
        task.add_done_callback(self._settle)
        return task

    def _settle(self, posting: "asyncio.Task[Any]") -> None:
        """Let go of a posting, which nobody may have waited for to its end."""
        self._under_way.discard(posting)
        error = None if posting.cancelled() else posting.exception()
        if error is not None:
            log.debug("posting_failed", error=repr(error))
        if error is not None or posting.cancelled():
            # As far as anybody knows it was not written, and the next one must not rest on it. If
            # it was, it owes events that are not in memory, and they come first.
            self._wallet_cache.clear()
            self._note_others()

    @asynccontextmanager
    async def _database_transaction(self) -> AsyncIterator[Connection]:
        """A database transaction on a connection that is given up if its server falls silent."""
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
