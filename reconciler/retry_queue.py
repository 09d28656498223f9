"""What stays PENDING too long: found by the sweep, published again, and at last given up.

The sweep walks the primary key from where it came to, and puts what is still PENDING on the retry
queue. What is on it is published again until it is PENDING no longer, and nothing is added to a
flood. What nobody posts, although it was announced again and again, ends as FAILED.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from contracts.identifiers import first_id_at
from contracts.topology import partition_queue
from reconciler import metrics
from runtime.amqp.connection import UNREACHABLE, BrokerLink, Channel, loss_as_error
from runtime.amqp.publisher import NotConfirmedError, Publisher
from runtime.amqp.republishing import recorded_messages, recorded_transaction
from runtime.amqp.topology import TopologyError, look_at_queue
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries
from runtime.service.fault_points import FaultPoint, FaultPoints
from runtime.tracing.spans import AnnouncementTraces, TraceContext, sampled_context

ROWS_PER_STEP_MAX: Final = 20_000
"""Rows that one commit walks over: some tens of milliseconds."""
READER_AFTER_S: Final = 30.0
"""A database transaction that wrote nothing for so long is a reader; recording is one statement,
which makes its ids and writes them at once."""
REWIND: Final = timedelta(minutes=10)
"""How far the sweep goes back when the database's clock was set back: rows that were made between
the step and its discovery are swept again, at the price of reading them twice."""
ANSWER_TIMEOUT_S: Final = 3.0
LAST_CALLS: Final = 3
"""Announcements past the age that a consumer has to take in vain: an outage of the processors,
however long, lets nothing expire, because nobody takes anything meanwhile."""
LAST_CALL_PAUSE_MIN_S: Final = 10.0
LAST_CALL_PAUSE_MAX_S: Final = 600.0
"""How long a consumer has for what it took: many times what it needs for all that it may hold."""
EXPIRED_PER_STEP_MAX: Final = 500
"""One commit and one event in the outbox: as many as a batch of the processor."""
FIRST_DELAY_S: Final = 10.0
"""When a republished transaction is due again: well after a healthy processor has posted it."""
DELAY_MAX_S: Final = 600.0
"""The longest pause between two tries, so that a mended fault is noticed within ten minutes."""
QUEUE_DEPTH_MAX: Final = 1_000
"""Messages in a queue above which nothing is added: most likely what is stale waits in it."""
CONFIRM_TIMEOUT_S: Final = 5.0
FORGOTTEN_MAX: Final = 10_000
"""Marks of unannounced transactions that one pass takes: some tens of milliseconds."""
CLAIM_LOCK_KEY: Final = 0x61636B63
"""Any number, the same for every process of Ackledger: 'ackc' in ASCII."""
COUNTED_MAX: Final = 100_000
"""The retry queue is counted no further: counting is not worth more time than that."""
_NO_ANSWER: Final[tuple[type[BaseException], ...]] = (TopologyError, *UNREACHABLE)
_PAUSES_PER_AGE: Final = 10

log = structlog.get_logger()


_HIDDEN: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The horizon where another role's session writes and hides since when."""


def tell_of_hidden_sessions(horizon: datetime) -> None:
    """Warn where nothing can be passed, since nobody shows what is still to be committed."""
    if horizon == _HIDDEN:
        log.warning("sessions_hidden", remedy="GRANT pg_read_all_stats TO the reconciler's role")


@dataclass(frozen=True, slots=True)
class SweepCounts:
    """What a sweep walked over, and what it newly found PENDING."""

    swept: int
    stale: int


class Sweep:
    """Puts what is PENDING for too long on the retry queue; looks at each row once."""

    def __init__(self, pool: Pool, *, reader_after_s: float = READER_AFTER_S) -> None:
        self._pool = pool
        self._reader_after_s = reader_after_s
        self._sql = load_queries("reconciler")

    async def run_once(self, *, older_than_s: float) -> SweepCounts:
        """Walk to the present minus a threshold, in bounded steps, each a commit of its own.

        Ids are made by the database's clock, so no other clock is asked.
        """
        swept = stale = 0
        async with self._pool.acquire() as connection:
            is_done = False
            while not is_done:
                counts, is_done = await self._step(connection, older_than_s)
                swept += counts.swept
                stale += counts.stale
        metrics.SWEPT.inc(swept)
        metrics.STALE.inc(stale)
        if stale:
            log.info("stale_transactions_found", transactions=stale)
        return SweepCounts(swept=swept, stale=stale)

    async def _step(self, connection: Connection, older_than_s: float) -> tuple[SweepCounts, bool]:
        [clock] = await connection.fetch(
            self._sql["read_horizon"], older_than_s, self._reader_after_s
        )
        tell_of_hidden_sessions(clock["horizon"])
        horizon, now = first_id_at(clock["horizon"]), clock["now"]
        async with connection.transaction():
            watermark = await connection.fetchval(self._sql["lock_progress"])
            if watermark > first_id_at(now):
                log.warning("database_clock_set_back", now=now.isoformat())
                watermark = first_id_at(now - REWIND)
                await connection.execute(self._sql["rewind_progress"], watermark)
            if watermark >= horizon:
                return SweepCounts(swept=0, stale=0), True
            [row] = await connection.fetch(
                self._sql["sweep_step"], watermark, horizon, ROWS_PER_STEP_MAX
            )
        counts = SweepCounts(swept=row["swept"], stale=row["stale"])
        return counts, counts.swept < ROWS_PER_STEP_MAX


@dataclass(frozen=True, slots=True)
class QueuesSeen:
    """The partitions' queues at one moment."""

    deepest: int
    """Messages that wait in the deepest of them."""
    are_served: bool
    """Every one is empty and has a consumer: whatever was announced before is in its hands."""


class QueueDepth:
    """Asks the broker, over a connection of its own, how many messages wait."""

    def __init__(self, url: str, *, partitions: int) -> None:
        self._queues = [partition_queue(number) for number in range(partitions)]
        self._channel: Channel | None = None
        self._ready = asyncio.Event()
        self._link = BrokerLink(url, name="reconciler-depth", opened=self._opened, lost=self._lost)

    async def run(self) -> None:
        """Keep connected until cancelled."""
        await self._link.run()

    @property
    def is_up(self) -> bool:
        """Whether the broker can be asked."""
        return self._channel is not None

    async def wait_until_up(self) -> None:
        """Return as soon as the broker can be asked."""
        await self._ready.wait()

    async def look(self) -> QueuesSeen:
        """Look at every queue; raises ConnectionError when nobody answers.

        A missing queue is one of these cases: `ackledger migrate` mends it while we run.
        """
        channel = self._channel
        if channel is None:
            raise ConnectionError("not connected to the broker")
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                with loss_as_error():
                    seen = [await look_at_queue(channel, queue) for queue in self._queues]
        except _NO_ANSWER as error:
            raise ConnectionError(repr(error)) from error
        for queue, (waiting, consumers) in zip(self._queues, seen, strict=True):
            metrics.QUEUE_MESSAGES.labels(queue).set(waiting)
            metrics.UNSERVED.labels(queue).set(0 if consumers else waiting)
        return QueuesSeen(
            deepest=max(waiting for waiting, _ in seen),
            are_served=all(waiting == 0 and consumers > 0 for waiting, consumers in seen),
        )

    async def _opened(self, channel: Channel) -> None:
        self._channel = channel
        self._ready.set()

    def _lost(self) -> None:
        self._channel = None
        self._ready.clear()


def last_call_pause_s(expire_after_s: float) -> float:
    """Return the seconds between two last calls: a tenth of the age, within bounds."""
    pause_s = expire_after_s / _PAUSES_PER_AGE
    return min(LAST_CALL_PAUSE_MAX_S, max(LAST_CALL_PAUSE_MIN_S, pause_s))


class Expiry:
    """Decides what has expired, and ends it; safe beside a processor that posts the same."""

    def __init__(self, pool: Pool, *, after_s: float) -> None:
        """`after_s` is the age from which on a transaction may expire; 0 is never."""
        self._pool = pool
        self._after_s = after_s
        self._sql = load_queries("reconciler")

    @property
    def age_s(self) -> float | None:
        """The age, or None where nothing expires."""
        return self._after_s or None

    @property
    def pause_s(self) -> float:
        """How long a last call waits for its end."""
        return last_call_pause_s(self._after_s)

    def is_due(self, *, is_too_old: bool, last_calls: int) -> bool:
        """Whether a PENDING transaction has had its time and its last calls."""
        return is_too_old and last_calls >= LAST_CALLS

    async def note_last_calls(self, transaction_ids: Sequence[UUID]) -> None:
        """Remember that the broker has the announcement of these, which are past their age."""
        if transaction_ids:
            await self._pool.execute(self._sql["note_last_calls"], transaction_ids)

    async def expire(self, transaction_ids: Sequence[UUID]) -> int:
        """End them, each unless it is being posted or has ended, and return how many were."""
        expired = 0
        for start in range(0, len(transaction_ids), EXPIRED_PER_STEP_MAX):
            step = transaction_ids[start : start + EXPIRED_PER_STEP_MAX]
            rows = await self._pool.fetch(self._sql["expire"], step, self._after_s, self._detail)
            expired += len(rows)
            for row in rows:
                log.warning("transaction_expired", transaction_id=str(row["id"]))
        metrics.EXPIRED.inc(expired)
        return expired

    @property
    def _detail(self) -> str:
        return f"not posted within {self._after_s:g} s, nor after {LAST_CALLS} last calls"


@dataclass(frozen=True, slots=True)
class RetryQueueCounts:
    """What became of due transactions, and how many are still on the list."""

    ended: int
    expired: int
    republished: int
    waiting: int
    is_paused: bool


@dataclass(frozen=True, slots=True)
class _Due:
    """Claimed transactions, by what is to be done with them."""

    ended: int
    to_publish: list[UUID]
    last_calls: list[UUID]
    """Those of them that are past their age."""
    to_expire: list[UUID]


class RetryQueue:
    """Publishes due transactions again, never more than a bound of them in flight."""

    def __init__(
        self,
        *,
        pool: Pool,
        publisher: Publisher,
        depth: QueueDepth,
        partitions: int,
        in_flight_max: int,
        expiry: Expiry,
        fault_points: FaultPoints | None = None,
        traces: AnnouncementTraces | None = None,
    ) -> None:
        self._pool = pool
        self._publisher = publisher
        self._depth = depth
        self._partitions = partitions
        self._in_flight_max = in_flight_max
        self._expiry = expiry
        self._fault_points = fault_points
        self._traces = traces or AnnouncementTraces()
        self._sql = load_queries("reconciler")

    async def run_once(self) -> RetryQueueCounts:
        """Publish what is due, confirmed; raises what keeps the broker from confirming."""
        ended = await self._pool.fetchval(self._sql["forget_ended"])
        await self._pool.execute(self._sql["forget_marks_of_ended"], FORGOTTEN_MAX)
        queues = await self._depth.look()
        is_paused = queues.deepest > QUEUE_DEPTH_MAX
        metrics.PAUSED.set(is_paused)
        expired = republished = 0
        if not is_paused:
            due = await self._claim(are_served=queues.are_served)
            ended += due.ended
            expired = await self._expiry.expire(due.to_expire)
            if self._fault_points is not None:
                await self._fault_points.reach(FaultPoint.RECONCILER_CLAIMED)
            await self._republish(due.to_publish)
            await self._expiry.note_last_calls(due.last_calls)
            if self._fault_points is not None:
                await self._fault_points.reach(FaultPoint.RECONCILER_REPUBLISHED)
            republished = len(due.to_publish)
        waiting = await self._pool.fetchval(self._sql["count_retry_queue"], COUNTED_MAX)
        metrics.RETRY_QUEUE.set(waiting)
        return RetryQueueCounts(
            ended=ended,
            expired=expired,
            republished=republished,
            waiting=waiting,
            is_paused=is_paused,
        )

    async def _claim(self, *, are_served: bool) -> _Due:
        rows = await self._claim_rows(are_served=are_served)
        pending = [row for row in rows if row["is_pending"]]
        due = _Due(ended=len(rows) - len(pending), to_publish=[], last_calls=[], to_expire=[])
        for row in pending:
            if self._expiry.is_due(is_too_old=row["is_too_old"], last_calls=row["last_calls"]):
                due.to_expire.append(row["id"])
                continue
            due.to_publish.append(row["id"])
            if row["is_too_old"]:
                due.last_calls.append(row["id"])
        return due

    async def _claim_rows(self, *, are_served: bool) -> list[asyncpg.Record]:
        """Claim as many as there is room for; what has ended takes no room, but counts here."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(self._sql["lock_claims"], CLAIM_LOCK_KEY)
            in_flight = await connection.fetchval(self._sql["count_in_flight"])
            room = self._in_flight_max - in_flight
            if room <= 0:
                return []
            return await connection.fetch(
                self._sql["claim_due"],
                room,
                FIRST_DELAY_S,
                DELAY_MAX_S,
                self._expiry.age_s,
                self._expiry.pause_s,
                are_served,
            )

    async def _republish(self, transaction_ids: Sequence[UUID]) -> None:
        """Publish queue by queue in id order; what is not confirmed is due again at once.

        With a member of an atomic batch all of the batch is published.
        """
        rows = await self._pool.fetch(self._sql["read_pending"], transaction_ids)
        pending = [recorded_transaction(row) for row in rows]
        unconfirmed = {transaction.id for transaction in pending}
        traced = self._traced(rows)
        try:
            for message in recorded_messages(pending, self._partitions):
                began_ns = time.time_ns()
                await self._publisher.publish(message.outgoing, timeout_s=CONFIRM_TIMEOUT_S)
                unconfirmed.difference_update(message.transaction_ids)
                if traced:
                    named = {one: traced[one] for one in message.transaction_ids if one in traced}
                    self._traces.announced(message.outgoing.routing_key, named, began_ns=began_ns)
        except NotConfirmedError:
            await self._give_back(unconfirmed)
            raise
        if pending:
            metrics.REPUBLISHED.inc(len(pending))
            log.info("transactions_republished", transactions=len(pending))

    def _traced(self, rows: Sequence[asyncpg.Record]) -> dict[UUID, TraceContext]:
        """Return the spans that rows name, of those whose traces are kept."""
        if not self._traces.is_on:
            return {}
        contexts = ((row["id"], sampled_context(row["traceparent"])) for row in rows)
        return {name: context for name, context in contexts if context is not None}

    async def _give_back(self, transaction_ids: set[UUID]) -> None:
        await self._pool.execute(self._sql["give_back"], list(transaction_ids))
