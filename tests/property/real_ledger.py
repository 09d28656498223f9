"""The real ledger for a state machine: each call runs one coroutine of the product to its end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, assert_never
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
from processor.poster import Poster
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
# Whoever used its session last, as pools hand out the one that was given back last.
_END_POSTER = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
ORDER BY state_change DESC NULLS LAST LIMIT 1
"""


class Crash(StrEnum):
    """How a poster comes to grief, its connection in hand, just before it commits."""

    ERROR = "error"
    """The network says no."""
    SESSION_ENDED = "session ended"
    """PostgreSQL ends the session: the server goes down."""
    CANCELLED = "cancelled"
    """The posting is cancelled in the middle of its commit: nobody knows whether it happened."""


class _Crashes(FaultPoints):
    """Strikes once, where it is told to."""

    def __init__(self, admin: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._admin = admin
        self.next: Crash | None = None

    async def reach(self, point: FaultPoint) -> None:
        crash, self.next = self.next, None
        if crash is None or point is not FaultPoint.PROCESSOR_BEFORE_COMMIT:
            return
        match crash:
            case Crash.ERROR:
                raise ConnectionResetError("the network says no")
            case Crash.SESSION_ENDED:
                assert await self._admin.fetchval(_END_POSTER)
            case Crash.CANCELLED:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            case _:
                assert_never(crash)


@dataclass(frozen=True)
class _Parts:
    """What of the product the machine drives."""

    pool: Pool
    admin: "asyncpg.Connection[asyncpg.Record]"
    poster: Poster
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
        change = "UPDATE wallets SET status = $2::text::wallet_status WHERE id = $1"
        self._run(self._parts.admin.execute(change, wallet_id, status.value))

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
        self._parts.crashes.next = crash
        with pytest.raises(Exception) as raised:  # noqa: PT011  # its fate is what counts
            self.post(items)
        assert classify(raised.value) is ErrorClass.TRANSIENT, repr(raised.value)

    def post_in_a_row(
        self, first: Sequence[Item], second: Sequence[Item], crash: Crash | None
    ) -> None:
        """Post two batches, the second decided while the first is written.

        The first may crash; then it is posted again before the second.
        """
        poster = self._parts.poster

        async def both() -> None:
            self._parts.crashes.next = crash
            before = await poster.load(first)
            behind = await poster.load(second)
            posting = asyncio.ensure_future(poster.post(first, loaded=before))
            while not posting.done():
                await asyncio.sleep(0)
                if behind.decided is None:
                    poster.decide_ahead(behind, behind=before)
            if (error := posting.exception()) is not None:
                assert isinstance(error, Exception)
                assert classify(error) is ErrorClass.TRANSIENT, repr(error)
                await poster.post(first, loaded=before)
            await poster.post(second, loaded=behind)

        self._run(both())

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
