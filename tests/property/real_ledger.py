"""The real ledger for a state machine: each call runs one coroutine of the product to its end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias, assert_never
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from contracts.identifiers import external_wallet_id
from contracts.messages import REQUESTED_TYPE
from contracts.record import (
    RecordedRow,
    Submission,
    have_terms,
    recorded_rows,
    recording_arguments,
)
from contracts.requests.references import other_id, resolved
from contracts.requests.transaction import TransactionCommand, command_of
from contracts.requests.wallet import WalletStatus
from dead_letters.operations import DeadLetters
from processor.deciding import WalletCache
from processor.intake import Item, ItemOutcome
from processor.poster import BatchResult, Loaded, Poster
from reconciler.clock import Clock
from reconciler.retry_queue import Sweep
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Pool, connect
from runtime.postgres.queries import load_queries
from runtime.resilience.error_classification import ErrorClass, classify
from runtime.service.fault_points import FaultPoint, FaultPoints
from tests.integration.dead_letters.letters import store
from tests.integration.processor.books import open_pool, recorded
from tests.property.model import Snapshot
from tests.property.strategies import CURRENCIES
from verification.verify import verify

_NO_BROKER: Final = "amqp://nobody@127.0.0.1:1/"
"""The machine carries the messages itself: it loses, repeats and reorders them at will."""
TRIES_MAX: Final = 5
"""Of a batch in a row: more than anything that befalls it takes."""
_SET_STATUS: Final = "UPDATE wallets SET status = $2::text::wallet_status WHERE id = $1"

Meddling: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""What somebody else does while two batches in a row are posted."""

_INSERT_WALLET = """
INSERT INTO wallets (id, currency, kind, overdraft_limit)
VALUES (
    uuid_v7(clock_us()), $1,
    CASE WHEN $2::bigint IS NULL THEN 'internal' ELSE 'customer' END::wallet_kind, coalesce($2, 0)
)
RETURNING id
"""
_WALLETS = """
SELECT w.id, w.balance, w.held, w.version, count(e.sequence) AS entries, sum(e.amount) AS total,
    max(e.sequence) AS last
FROM wallets AS w LEFT JOIN entries AS e ON e.wallet_id = w.id
WHERE w.id = ANY ($1)
GROUP BY w.id
"""
_TRANSACTIONS = """
SELECT idempotency_key, status::text, failure_code::text FROM transactions WHERE submitter = $1
"""
_EVENTS = """
SELECT t.idempotency_key, o.event_type
FROM outbox AS o, unnest(o.transaction_ids) AS owed (id), transactions AS t
WHERE t.id = owed.id AND t.submitter = $1
"""
_OTHER = """
SELECT type::text, source_wallet_id, destination_wallet_id, amount, currency
FROM transactions WHERE id = $1
"""
_HOLDS = """
SELECT t.idempotency_key, h.status::text, h.captured, h.remaining
FROM transactions AS t INNER JOIN holds AS h ON h.transaction_id = t.id
WHERE t.submitter = $1
"""
_LET_EXPIRE = """
UPDATE holds SET expires_at = clock_timestamp() WHERE transaction_id = $1 AND status = 'OPEN'
"""
# All of the posters': which of them is in hand, and was not used yet, cannot be told.
_END_POSTERS = """
SELECT bool_and(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'ackledger-test'
"""


class Crash(StrEnum):
    """How a poster comes to grief, its connection in hand, just before it commits."""

    ERROR = "error"
    """The network says no."""
    SESSION_ENDED = "session ended"
    """PostgreSQL ends the sessions: the server goes down."""
    CANCELLED = "cancelled"
    """The posting is cancelled in the middle of its commit: nobody knows whether it happened."""
    FAILED = "failed"
    """For a reason that nobody knows: the batch is posted in halves."""


PASSING: Final = (Crash.ERROR, Crash.SESSION_ENDED, Crash.CANCELLED)
"""What has the same batch posted again."""


class Ahead(StrEnum):
    """How far the second of two batches came while the first was being written."""

    NOTHING = "decided in its turn"
    DECIDED = "decided ahead"
    MISSED = "sent ahead, and missed its turn"
    WRITTEN = "sent ahead, and written so"


class _UnknownError(Exception):
    """What Crash.FAILED raises."""


class _Crashes(FaultPoints):
    """Strikes where it is told to."""

    def __init__(self, admin: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._admin = admin
        self.next: list[Crash | None] = []
        """What befalls the commits that come next, one after the other."""
        self.reached = 0
        """How often a batch was about to be committed."""

    async def reach(self, point: FaultPoint) -> None:
        if point is not FaultPoint.PROCESSOR_BEFORE_COMMIT:
            return
        self.reached += 1
        if not self.next:
            return
        crash = self.next.pop(0)
        if crash is not None:
            await self._strike(crash)

    async def _strike(self, crash: Crash) -> None:
        match crash:
            case Crash.ERROR:
                raise ConnectionResetError("the network says no")
            case Crash.SESSION_ENDED:
                assert await self._admin.fetchval(_END_POSTERS)
            case Crash.CANCELLED:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            case Crash.FAILED:
                raise _UnknownError
            case _:
                assert_never(crash)


@dataclass(frozen=True)
class _Parts:
    """What of the product the machine drives."""

    pool: Pool
    admin: "asyncpg.Connection[asyncpg.Record]"
    poster: Poster
    other: Poster
    """Of another process; it remembers no wallets, and is not told where to crash."""
    crashes: _Crashes
    dead_letters: DeadLetters
    sweep: Sweep
    clock: Clock


@asynccontextmanager
async def _open(url: str) -> AsyncIterator[_Parts]:
    admin = await connect(url, name="machine")
    for currency in CURRENCIES:
        await admin.execute(
            "INSERT INTO wallets (id, currency, kind) VALUES ($1, $2, 'external')",
            external_wallet_id(currency),
            currency,
        )
    crashes = _Crashes(admin)
    async with open_pool(url) as pool:
        yield _Parts(
            pool=pool,
            admin=admin,
            poster=Poster(pool, wallet_cache=WalletCache(), fault_points=crashes, few_max=0),
            other=Poster(pool),
            crashes=crashes,
            dead_letters=DeadLetters(
                pool=pool, publisher=Publisher(_NO_BROKER, name="machine"), partitions=1
            ),
            sweep=Sweep(pool),
            clock=Clock(pool),
        )
    await admin.close()


class RealLedger:
    """A database and the parts of the product upon it, called one after the other."""

    def __init__(self, runner: asyncio.Runner, parts: _Parts) -> None:
        self._run = runner.run
        self._parts = parts
        self._sql = load_queries("ingress")
        self._bodies: dict[bytes, dict[str, Any]] = {}

    def command(self, body: dict[str, Any]) -> TransactionCommand:
        """Return what a request asks for; its body can be sent upstream later."""
        command = command_of(body)
        self._bodies[command.fingerprint] = body
        return command

    def create_wallet(self, currency: str, overdraft_limit: int | None) -> UUID:
        """Make an empty wallet: an internal one, where there is no limit."""
        made = self._run(self._parts.admin.fetchval(_INSERT_WALLET, currency, overdraft_limit))
        assert isinstance(made, UUID)
        return made

    def set_status(self, wallet_id: UUID, status: WalletStatus) -> None:
        """Freeze, thaw or close a wallet."""
        self._run(self.changing(wallet_id, status)())

    def changing(self, wallet_id: UUID, status: WalletStatus) -> Meddling:
        """Return what an administrator does while others post."""

        async def change() -> None:
            await self._parts.admin.execute(_SET_STATUS, wallet_id, status.value)

        return change

    def body_of(self, command: TransactionCommand) -> dict[str, Any]:
        """Return the request that a command was made of."""
        return {
            **self._bodies[command.fingerprint],
            "idempotency_key": command.idempotency_key,
        }

    def record(self, submissions: Sequence[Submission]) -> list[RecordedRow]:
        """Record requests as the ingress does: what names another transaction, with that read."""
        known = [self._resolved(submission) for submission in submissions]
        has_terms = have_terms(known)
        query = "record_transactions_with_terms" if has_terms else "record_transactions"
        rows = self._run(self._parts.pool.fetch(self._sql[query], *recording_arguments(known)))
        return recorded_rows(rows, len(submissions))

    def _resolved(self, submission: Submission) -> Submission:
        named = other_id(submission.command)
        if named is None:
            return submission
        other = self._run(self._parts.admin.fetchrow(_OTHER, named))
        return submission._replace(command=resolved(submission.command, other))

    def expire(self, transaction_id: UUID) -> None:
        """Let a hold's time be over, and the reconciler's clock strike."""
        self._run(self._parts.admin.execute(_LET_EXPIRE, transaction_id))
        self._run(self._parts.clock.run_once())

    def post(self, items: Sequence[Item]) -> list[ItemOutcome]:
        """Post a batch."""
        return recorded(self._run(self._parts.poster.post(items)).outcomes)

    def post_twice_at_once(self, items: Sequence[Item]) -> None:
        """Post a batch as the old processor and the one that took over from it."""

        async def both() -> None:
            await asyncio.gather(*(self._parts.poster.post(items) for _ in range(2)))

        self._run(both())

    def crash(self, items: Sequence[Item], crash: Crash) -> None:
        """Post a batch that crashes; the error is one that has it posted again."""
        self._parts.crashes.next = [crash]
        with pytest.raises(Exception) as raised:  # noqa: PT011  # its fate is what counts
            self.post(items)
        assert classify(raised.value) is ErrorClass.TRANSIENT, repr(raised.value)

    def post_in_a_row(
        self,
        first: Sequence[Item],
        second: Sequence[Item],
        *,
        crashes: Sequence[Crash | None] = (),
        is_late: bool = False,
        meddling: Meddling | None = None,
        is_early: bool = False,
    ) -> Ahead:
        """Post two batches, the second decided and sent while the first is written, if it can be.

        Both are posted in the end, whatever befalls them. `crashes` are those of the next commits,
        the first batch's first; `is_late` is a second batch that is decided when the first one has
        failed once. `meddling` is done while both are written; `is_early`: just before, when they
        are read. Returns how far ahead the second was.
        """
        parts = self._parts

        async def both() -> Ahead:
            before = await parts.poster.load(first)
            if not parts.poster.may_load(second, behind=before):
                assert meddling is None
                parts.crashes.next = [*crashes]
                await _insist(parts.poster, first, before)
                await _insist(parts.poster, second)
                parts.crashes.next = []
                return Ahead.NOTHING
            behind = await parts.poster.load(second, behind=before)
            if meddling is not None and is_early:
                await meddling()
            parts.crashes.next = [*crashes]
            posting = asyncio.ensure_future(_insist(parts.poster, first, before))
            await self._decide_behind(before, behind, posting, is_late=is_late)
            ahead = behind.ahead
            if meddling is not None and not is_early:
                await meddling()
            await posting
            await _insist(parts.poster, second, behind)
            parts.crashes.next = []
            return _how_far(behind, ahead)

        return self._run(both())

    async def _decide_behind(
        self, before: Loaded, behind: Loaded, posting: "asyncio.Future[None]", *, is_late: bool
    ) -> None:
        """Decide a batch while the one before is written, as soon as that can be, or it failed."""
        reached = self._parts.crashes.reached
        is_time = False
        while behind.decided is None and not posting.done():
            await asyncio.sleep(0)
            is_sent = self._parts.crashes.reached > reached
            is_over = before.turn is not None and before.turn.over.is_set()
            is_time = is_time or (is_over if is_late else is_sent)
            if is_time and not posting.done():
                self._parts.poster.decide_ahead(behind, behind=before)

    def drafts_posted(self) -> int:
        """Return how many transactions were recorded by the statement that posted them."""
        count: int = self._run(self._parts.admin.fetchval("SELECT drafts FROM posting_turn"))
        return count

    def posting_beside(self, *batches: Sequence[Item]) -> Meddling:
        """Return what another process does that posts batches, one after the other."""

        async def post() -> None:
            for items in batches:
                await _insist(self._parts.other, items)

        return post

    def quarantine(self, item: Item, submission: Submission) -> tuple[UUID | None, UUID]:
        """Set an item aside; return its transaction and its dead letter."""
        letters: list[UUID] = []

        async def bury(transaction_id: UUID | None) -> None:
            letters.append(await self._store([submission], transaction_id))

        transaction_id = self._run(self._parts.poster.quarantine(item, bury=bury))
        return transaction_id, letters[0]

    def bury(self, submissions: Sequence[Submission]) -> UUID:
        """Store a message that the broker gave up."""
        return self._run(self._store(submissions, None))

    def replay(self, letter_id: UUID) -> str:
        """Replay a dead letter and return its fate."""
        return self._run(self._parts.dead_letters.replay(letter_id, actor="machine")).fate.value

    def discard(self, letter_id: UUID) -> str:
        """Discard a dead letter and return its fate."""
        return self._run(self._parts.dead_letters.discard(letter_id, actor="machine")).fate.value

    def stale(self) -> set[UUID]:
        """Sweep all there is, and return what stands on the retry queue."""

        async def sweep() -> set[UUID]:
            await self._parts.sweep.run_once(older_than_s=0)
            listed = "SELECT transaction_id FROM stale_transactions"
            return {row["transaction_id"] for row in await self._parts.admin.fetch(listed)}

        return self._run(sweep())

    def ids(self, submitter: str) -> dict[str, UUID]:
        """Return the recorded ids by key."""
        listed = "SELECT idempotency_key, id FROM transactions WHERE submitter = $1"
        rows = self._run(self._parts.admin.fetch(listed, submitter))
        return {row["idempotency_key"]: row["id"] for row in rows}

    def snapshot(self, submitter: str, wallet_ids: Sequence[UUID]) -> Snapshot:
        """Return what can be seen of one submitter's books; each wallet agrees with its entries."""
        wallets = self._run(self._parts.admin.fetch(_WALLETS, wallet_ids))
        for row in wallets:
            assert row["version"] == row["entries"] == (row["last"] or 0), row
            assert row["balance"] == (row["total"] or 0), row
        transactions = self._run(self._parts.admin.fetch(_TRANSACTIONS, submitter))
        holds = self._run(self._parts.admin.fetch(_HOLDS, submitter))
        events = self._run(self._parts.admin.fetch(_EVENTS, submitter))
        return Snapshot(
            {row["id"]: (row["balance"], row["held"], row["entries"]) for row in wallets},
            {row["idempotency_key"]: (row["status"], row["failure_code"]) for row in transactions},
            {
                row["idempotency_key"]: (row["status"], row["captured"], row["remaining"])
                for row in holds
            },
            Counter((row["idempotency_key"], row["event_type"]) for row in events),
        )

    def findings(self) -> list[dict[str, str]]:
        """Return what `verify` finds wrong."""
        report = self._run(verify(self._parts.admin, pending_max_s=3600))
        return [finding.to_json() for finding in report.findings]

    async def _store(self, submissions: Sequence[Submission], transaction_id: UUID | None) -> UUID:
        bodies = [self.body_of(submission.command) for submission in submissions]
        return await store(
            self._parts.admin,
            orjson.dumps({"version": 1, "transactions": bodies}),
            submitter=submissions[0].submitter,
            transaction_id=transaction_id,
            message_type=REQUESTED_TYPE,
        )


async def _insist(poster: Poster, items: Sequence[Item], loaded: Loaded | None = None) -> None:
    """Post again after what passes, and in halves after what fails for no known reason."""
    for _ in range(TRIES_MAX):
        try:
            await poster.post(items, loaded=loaded)
        except _UnknownError:
            if len(items) == 1:
                continue
            middle = len(items) // 2
            await _insist(poster, items[:middle])
            await _insist(poster, items[middle:])
        except Exception as error:
            if classify(error) is not ErrorClass.TRANSIENT:
                raise
            continue
        return
    raise AssertionError(f"not posted by {TRIES_MAX} tries")


def _how_far(behind: Loaded, ahead: "asyncio.Task[BatchResult | None] | None") -> Ahead:
    if behind.decided is None:
        return Ahead.NOTHING
    if ahead is None:
        return Ahead.DECIDED
    is_lost = ahead.cancelled() or ahead.exception() is not None or ahead.result() is None
    return Ahead.MISSED if is_lost else Ahead.WRITTEN


@contextmanager
def open_ledger(url: str) -> Iterator[RealLedger]:
    """Open the ledger of a migrated, empty database, with an event loop of its own."""
    # A given factory leaves the current loop, which is pytest's, as it is.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opening = _open(url)
        parts = runner.run(opening.__aenter__())
        try:
            yield RealLedger(runner, parts)
        finally:
            runner.run(opening.__aexit__(None, None, None))


def new_submitter() -> str:
    """Return a submitter whom nobody knows yet: a world of its own in the same database."""
    return f"machine-{uuid4().hex}"
