"""What is told of a batch: dead letters, results to whoever asked, and news to other partitions.

No error of one message's letter or result reaches the others, or ends the loop: that message is
set aside as a dead letter.

A partition's consumer records an upstream message, and acks it once each transaction of it is
posted here or announced to the partition that posts it. Its result, where one was asked for, is
sent when all of them have ended.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, assert_never
from uuid import UUID

import asyncpg
import structlog

from contracts.messages import (
    CORRELATION_HEADER,
    DETAIL_HEADER,
    QUEUE_HEADER,
    REASON_HEADER,
    RECORDED_TYPE,
    REPLY_TO_HEADER,
    RESULT_TYPE,
    SUBMITTER_HEADER,
    TRANSACTION_HEADER,
    DeadLetterReason,
    Requested,
    escaped,
    reply_queue,
    result_body,
)
from contracts.topology import DEAD_LETTERS, partition_queue
from ledger.words import FINAL_STATUSES
from processor import metrics
from processor.intake import Delivery, InvalidItem, ItemOutcome, PartitionConsumer, Poison
from processor.letters import (
    DeadLetterCause,
    letter_of_invalid,
    letter_of_quarantined,
    letter_of_reused_keys,
    letter_of_unrecorded,
    told,
)
from processor.poster import Poster
from processor.retry import FailedItem, ItemResult, RetryingPoster
from processor.writing import ACQUIRE_TIMEOUT_S
from runtime.access.submitters import UpstreamSight, rendered_for
from runtime.amqp.publisher import NotConfirmedError, Outgoing, Publisher, UnroutableError
from runtime.amqp.republishing import grouped
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries
from runtime.resilience.error_classification import (
    ErrorClass,
    GivenBackError,
    classify,
    is_transient,
)
from runtime.service.periodic import Backoff, repeat

CONFIRM_TIMEOUT_S: Final = 5.0
DETAIL_MAX: Final = 1000
"""Characters of a dead letter's detail: it travels as a header."""

REPLIES_MAX: Final = 64
"""Results that wait for their confirm at once."""
REPLIES_TIMEOUT_S: Final = 5.0
"""For all results of a batch together: the next batch waits meanwhile."""
LOOK_INTERVAL_S: Final = 0.1
AWAITED_MAX: Final = 1_000
"""Results that wait for other partitions; more are lost, as a reply is whose queue is gone."""
LOOKED_AT_MAX: Final = 100
"""Results of one look: each may tell of a thousand transactions."""
PATIENCE_S: Final = 30.0
"""After it a result tells of what is PENDING, as it is: its sender reads on over HTTP."""
BURIALS_MAX: Final = 64
"""Dead letters that wait for their confirm at once: a flood of poison is soon over."""
BURIALS_OCTETS_MAX: Final = 8 * 1024 * 1024
"""Bodies of the dead letters that wait at once: each is in memory twice until it left."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reply:
    """A result that is owed to the sender of a message, in a queue that it may read."""

    delivery: Delivery
    queue: str
    transaction_ids: Sequence[UUID]
    submitter: str


class FailedReply(NamedTuple):
    """A result that could not be written, whoever would have taken it."""

    reply: Reply
    error: Exception


class Rows(NamedTuple):
    """Transactions as `transaction_views` shows them, by id, and what their submitters see."""

    by_id: Mapping[UUID, asyncpg.Record]
    theirs: Mapping[str, Collection[UUID]]
    """Of the submitters that do not reach all, the wallets that are theirs."""


class Replies:
    """Publishes dead letters, and results to whoever asked with `reply_to`."""

    def __init__(self, *, publisher: Publisher, pool: Pool, queue: str) -> None:
        self._publisher = publisher
        self._pool = pool
        self._queue = queue
        self._sql = load_queries("processor")
        self._sight = UpstreamSight()

    async def bury(
        self, delivery: Delivery, letter: DeadLetterCause, *, is_ours: Callable[[], bool]
    ) -> None:
        """Publish a message as a dead letter until it is confirmed.

        Raises GivenBackError when the message is not `is_ours` to settle any more.
        """
        backoff = Backoff(first_s=0.1, most_s=2.0)
        while is_ours():
            if await self._bury_once(delivery, letter):
                metrics.DEAD_LETTERS.labels(letter.reason).inc()
                log.warning("dead_letter", reason=letter.reason, detail=letter.detail)
                return
            await asyncio.sleep(backoff.next_delay_s())
        raise GivenBackError("the channel that delivered is gone")

    async def set_aside(
        self, delivery: Delivery, kind: str, error: Exception, *, is_ours: Callable[[], bool]
    ) -> None:
        """Keep a message whose answer or result (`kind`) failed: what it asked for is settled.

        Raises what `bury` raises.
        """
        metrics.SET_ASIDE.labels(kind).inc()
        log.error("message_set_aside", kind=kind, error=repr(error))
        detail = f"the {kind} to this message could not be written: {told(error)}"
        is_result = kind == "reply"
        reason = DeadLetterReason.REPLY_NOT_SENT if is_result else DeadLetterReason.UNKNOWN
        await self.bury(delivery, DeadLetterCause(reason, detail), is_ours=is_ours)

    async def _bury_once(self, delivery: Delivery, letter: DeadLetterCause) -> bool:
        """Publish the message as a dead letter; return whether the broker confirmed it.

        Its properties go along as the octets that they came in. What the sender wrote must not
        keep a letter from being written: if all of it together cannot be, the body and the reason
        are.
        """
        try:
            return await self._publish_letter(self._letter(delivery, letter))
        except Exception as error:  # noqa: BLE001  # one message's letter never ends the loop
            metrics.SET_ASIDE.labels("letter").inc()
            log.error("dead_letter_not_writable", reason=letter.reason, error=repr(error))  # noqa: TRY400  # a frame holds the sender's body
        return await self._publish_letter(self._least_letter(delivery, letter))

    def _letter(self, delivery: Delivery, letter: DeadLetterCause) -> Outgoing:
        properties = delivery.properties
        headers = {
            REASON_HEADER: letter.reason.value,
            DETAIL_HEADER: letter.detail[:DETAIL_MAX],
            QUEUE_HEADER: self._queue,
        }
        if user := properties.user_id:
            headers[SUBMITTER_HEADER] = user
        if letter.transaction_id is not None:
            headers[TRANSACTION_HEADER] = str(letter.transaction_id)
        if letter.reason is DeadLetterReason.REPLY_NOT_SENT:
            headers[REPLY_TO_HEADER] = properties.reply_to or ""
            if properties.correlation_id_octets is not None:
                headers[CORRELATION_HEADER] = escaped(properties.correlation_id_octets)
        return Outgoing(
            exchange=DEAD_LETTERS,
            routing_key=self._queue,
            body=delivery.body if letter.body is None else letter.body,
            type=RECORDED_TYPE if letter.body is not None else properties.message_type_octets or "",
            content_type=properties.content_type_octets,
            correlation_id=properties.correlation_id_octets,
            headers=headers,
        )

    def _least_letter(self, delivery: Delivery, letter: DeadLetterCause) -> Outgoing:
        """Only what is ours, and the body: nothing here depends on what a sender wrote."""
        return Outgoing(
            exchange=DEAD_LETTERS,
            routing_key=self._queue,
            body=delivery.body,
            type="",
            headers={REASON_HEADER: letter.reason.value, QUEUE_HEADER: self._queue},
        )

    async def _publish_letter(self, message: Outgoing) -> bool:
        try:
            await self._publisher.publish(message, timeout_s=CONFIRM_TIMEOUT_S)
        except NotConfirmedError as error:
            log.warning("dead_letter_not_confirmed", error=str(error))
            return False
        return True

    async def read(self, replies: Sequence[Reply]) -> tuple[Rows, list[FailedReply]]:
        """Return the transactions that results will tell of, and the results that they fail.

        Raises what passes when it is tried again.
        """
        ids = [one for reply in replies for one in reply.transaction_ids]
        try:
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                rows = await connection.fetch(self._sql["read_transactions"], ids)
                theirs = await self._theirs(connection, replies, rows)
        except Exception as error:
            if classify(error) is ErrorClass.TRANSIENT:
                raise
            if len(replies) == 1:
                return Rows({}, {}), [FailedReply(replies[0], error)]
        else:
            return Rows({row["id"]: row for row in rows}, theirs), []
        # One of them cannot be read: find out which.
        found: dict[UUID, asyncpg.Record] = {}
        seen: dict[str, set[UUID]] = defaultdict(set)
        failed: list[FailedReply] = []
        for one in replies:
            own, broken = await self.read([one])
            found.update(own.by_id)
            for submitter, wallets in own.theirs.items():
                seen[submitter].update(wallets)
            failed += broken
        return Rows(found, seen), failed

    async def _theirs(
        self, connection: Connection, replies: Sequence[Reply], rows: Sequence[asyncpg.Record]
    ) -> dict[str, Collection[UUID]]:
        """Return which wallets of rows belong to whom, of the submitters that do not reach all."""
        found: dict[str, Collection[UUID]] = {}
        for submitter in {one.submitter for one in replies}:
            own = [row for row in rows if row["submitter"] == submitter]
            theirs = await self._sight.theirs(connection, submitter, own)
            if theirs is not None:
                found[submitter] = theirs
        return found

    async def reply_all(self, replies: Sequence[Reply], rows: Rows) -> list[FailedReply]:
        """Send the results of a batch, within REPLIES_TIMEOUT_S. What is not out by then is lost.

        So posting never waits for somebody's reply queue. The transactions themselves are safe,
        and readable over HTTP; a message that comes again is answered again. Returns the results
        that cannot be written at all.
        """
        slots = asyncio.Semaphore(REPLIES_MAX)
        failed: list[FailedReply] = []
        try:
            async with asyncio.timeout(REPLIES_TIMEOUT_S), asyncio.TaskGroup() as group:
                for one in replies:
                    group.create_task(self._reply_or_note(one, rows, slots, failed))
        except TimeoutError:
            metrics.REPLIES_LOST.inc()
            log.warning("replies_timed_out", batch=len(replies), after_s=REPLIES_TIMEOUT_S)
        return failed

    async def _reply_or_note(
        self, reply: Reply, rows: Rows, slots: asyncio.Semaphore, failed: list[FailedReply]
    ) -> None:
        try:
            async with slots:
                await self._reply(reply, rows)
        except Exception as error:  # noqa: BLE001  # its neighbours have their results
            failed.append(FailedReply(reply, error))

    async def _reply(self, reply: Reply, rows: Rows) -> None:
        result = _result(reply, rows)
        while True:
            # A consumer may be connected again before the publisher is.
            await self._publisher.wait_until_up()
            try:
                await self._publisher.publish(result, timeout_s=CONFIRM_TIMEOUT_S)
            except UnroutableError:
                metrics.REPLIES_LOST.inc()
                log.info("reply_queue_gone", reply_to=reply.queue)
            except NotConfirmedError as error:
                if not self._publisher.is_up:
                    continue
                metrics.REPLIES_LOST.inc()
                log.warning("reply_lost", reply_to=reply.queue, error=repr(error))
            return


def _result(reply: Reply, rows: Rows) -> Outgoing:
    theirs = rows.theirs.get(reply.submitter)
    views = [
        rendered_for(rows.by_id[one], reply.submitter, theirs)
        for one in reply.transaction_ids
        if one in rows.by_id
    ]
    return Outgoing(
        exchange="",
        routing_key=reply.queue,
        body=result_body(views),
        type=RESULT_TYPE,
        correlation_id=reply.delivery.properties.correlation_id_octets,
    )


@dataclass(frozen=True, slots=True)
class _Awaited:
    reply: Reply
    until: float


class Forwarder:
    """Announces transactions to the other partitions that post them, and tells of their end."""

    def __init__(self, *, publisher: Publisher, replies: Replies) -> None:
        self._publisher = publisher
        self._replies = replies
        self._awaited: deque[_Awaited] = deque()
        self._arrived = asyncio.Event()

    async def forward(self, settled: Sequence[ItemResult], *, is_ours: Callable[[], bool]) -> None:
        """Return when each partition's queue has what it is to post, in the order of `settled`.

        Raises GivenBackError when their messages are not `is_ours` any more.
        """
        queues: dict[str, list[UUID]] = defaultdict(list)
        for one in settled:
            if isinstance(one, ItemOutcome) and one.partition is not None:
                queues[partition_queue(one.partition)].append(one.transaction_id)
        messages = [group.outgoing for group in grouped(queues)]
        backoff = Backoff(first_s=0.1, most_s=2.0)
        while messages:
            try:
                await self._publisher.publish_all(messages, timeout_s=CONFIRM_TIMEOUT_S)
            except NotConfirmedError as error:
                log.warning("forwarding_not_confirmed", messages=len(messages), error=str(error))
            else:
                metrics.FORWARDED.inc(sum(map(len, queues.values())))
                return
            if not is_ours():
                raise GivenBackError("the channel that delivered is gone")
            await asyncio.sleep(backoff.next_delay_s())

    def reply_later(self, reply: Reply) -> None:
        """Send a result when all that it tells of has ended, after PATIENCE_S at the latest."""
        if len(self._awaited) >= AWAITED_MAX:
            metrics.REPLIES_LOST.inc()
            log.warning("reply_lost", reply_to=reply.queue, error="too many wait")
            return
        until = asyncio.get_running_loop().time() + PATIENCE_S
        self._awaited.append(_Awaited(reply, until))
        self._arrived.set()

    async def run(self) -> None:
        """Send results until cancelled."""
        await repeat(
            self._look,
            every_s=0,
            is_passing=is_transient,
            failed=lambda error: log.info("late_replies_not_read", error=repr(error)),
        )

    async def _look(self) -> None:
        """Look at the oldest ones, and at the next ones the next time."""
        if not self._awaited:
            self._arrived.clear()
            await self._arrived.wait()
        await asyncio.sleep(LOOK_INTERVAL_S)
        looked_at = list(islice(self._awaited, LOOKED_AT_MAX))
        rows, failed = await self._replies.read([one.reply for one in looked_at])
        broken = {id(one.reply) for one in failed}
        readable = [one for one in looked_at if id(one.reply) not in broken]
        now = asyncio.get_running_loop().time()
        due = [one for one in readable if now >= one.until or _has_ended(one.reply, rows)]
        for _ in looked_at:
            self._awaited.popleft()
        self._awaited.extend(one for one in readable if one not in due)
        failed += await self._replies.reply_all([one.reply for one in due], rows)
        for reply, error in failed:
            # Its message was acked long ago: only the letter keeps what its sender is owed.
            await self._replies.set_aside(reply.delivery, "reply", error, is_ours=lambda: True)


def _has_ended(reply: Reply, rows: Rows) -> bool:
    return all(
        one in rows.by_id and rows.by_id[one]["status"] in FINAL_STATUSES
        for one in reply.transaction_ids
    )


class BatchReplies:
    """The letters and results of one partition's batches."""

    def __init__(
        self,
        *,
        consumer: PartitionConsumer,
        poster: Poster,
        retrying: RetryingPoster,
        replies: Replies,
        forwarder: Forwarder,
    ) -> None:
        self._consumer = consumer
        self._poster = poster
        self._retrying = retrying
        self._replies = replies
        self._forwarder = forwarder

    async def bury_poison(self, poison: Sequence[Delivery]) -> None:
        """Bury what can never be processed, and ack each message behind its letter.

        By itself: its neighbours may have to wait for the database, and are given back at worst,
        which must not bury it twice.
        """
        under_way: dict[asyncio.Task[None], int] = {}
        try:
            for delivery in poison:
                octets = len(delivery.body)
                while under_way and not _has_room(under_way, octets):
                    await _first_of(under_way)
                under_way[asyncio.create_task(self._bury_and_ack(delivery))] = octets
            while under_way:
                await _first_of(under_way)
        finally:
            for burial in under_way:
                burial.cancel()
            # Each of them that failed says the same; asyncio logs what nobody has looked at.
            await asyncio.gather(*under_way, return_exceptions=True)

    def is_needed(self, deliveries: Sequence[Delivery], settled: Sequence[ItemResult]) -> bool:
        """Whether anybody is to be told anything of a batch; nearly always nobody is."""
        return any(one.properties.reply_to_octets for one in deliveries) or any(
            not isinstance(one, ItemOutcome) or one.is_key_reused or one.partition is not None
            for one in settled
        )

    async def answer(self, deliveries: Sequence[Delivery], settled: Sequence[ItemResult]) -> None:
        """Send results where they were asked for, and dead letters for what could not be posted.

        First of all, other partitions are told of what they post.
        """
        await self._forwarder.forward(
            settled, is_ours=lambda: self._consumer.is_current(deliveries[0])
        )
        remaining = iter(settled)
        replies: list[Reply] = []
        for delivery in deliveries:
            own = [next(remaining) for _ in delivery.items]
            try:
                await self._answer_one(delivery, own)
                reply = _reply_of(delivery, own)
            except GivenBackError:
                raise
            except Exception as error:  # noqa: BLE001  # set aside, as it is promised above
                await self._set_aside(delivery, "answer", error)
            else:
                if reply is None:
                    continue
                if any(isinstance(one, ItemOutcome) and one.partition is not None for one in own):
                    self._forwarder.reply_later(reply)
                else:
                    replies.append(reply)
        if replies:
            # Read again like a batch: a result is lost with its queue, never with the database.
            rows, failed = await self._retrying.insist(lambda: self._replies.read(replies))
            broken = {id(one.reply) for one in failed}
            readable = [one for one in replies if id(one) not in broken]
            failed += await self._replies.reply_all(readable, rows)
            for reply, cause in failed:
                await self._set_aside(reply.delivery, "reply", cause)

    async def _answer_one(self, delivery: Delivery, own: Sequence[ItemResult]) -> None:
        """Bury a message once at the most as it came, however many of its items ask for it."""
        reused: list[tuple[int, UUID]] = []
        unrecorded: list[tuple[int, Exception]] = []
        invalid: list[tuple[int, str]] = []
        for index, outcome in enumerate(own):
            match outcome:
                case ItemOutcome(transaction_id, is_key_reused=True):
                    reused.append((index, transaction_id))
                case ItemOutcome():
                    pass
                case InvalidItem(detail):
                    invalid.append((index, detail))
                case FailedItem():
                    if await self.quarantine(delivery, outcome) is None:
                        unrecorded.append((index, outcome.error))
                case other:
                    assert_never(other)
        if invalid:
            await self._bury(delivery, letter_of_invalid(delivery, invalid))
        if reused:
            await self._bury(delivery, letter_of_reused_keys(delivery, reused))
        if unrecorded:
            await self._bury(delivery, letter_of_unrecorded(delivery, unrecorded))

    async def quarantine(self, delivery: Delivery, failed: FailedItem) -> UUID | None:
        """Quarantine a transaction; None for one that has no row, and so no letter yet."""

        async def bury(transaction_id: UUID | None) -> None:
            if transaction_id is not None:
                await self._bury(delivery, letter_of_quarantined(failed.error, transaction_id))

        transaction_id: UUID | None = None
        try:
            transaction_id = await self._retrying.insist(
                lambda: self._poster.quarantine(failed.item, bury=bury)
            )
        except GivenBackError:
            raise
        except Exception as problem:  # noqa: BLE001  # it has no row, and a dead letter keeps it
            log.warning("quarantine_failed", error=repr(problem))
        metrics.TRANSACTIONS.labels("quarantined").inc()
        log.error(
            "transaction_quarantined",
            transaction_id=str(transaction_id),
            error=repr(failed.error),
        )
        return transaction_id

    async def _set_aside(self, delivery: Delivery, kind: str, error: Exception) -> None:
        await self._replies.set_aside(
            delivery, kind, error, is_ours=lambda: self._consumer.is_current(delivery)
        )

    async def _bury_and_ack(self, delivery: Delivery) -> None:
        if isinstance(delivery.content, Poison):
            await self._bury(delivery, DeadLetterCause(*delivery.content))
            await self._consumer.ack([delivery])

    async def _bury(self, delivery: Delivery, letter: DeadLetterCause) -> None:
        await self._replies.bury(
            delivery, letter, is_ours=lambda: self._consumer.is_current(delivery)
        )


def _has_room(under_way: "Mapping[asyncio.Task[None], int]", octets: int) -> bool:
    """Whether one more may be buried at once, by number and by octets."""
    return len(under_way) < BURIALS_MAX and sum(under_way.values()) + octets <= BURIALS_OCTETS_MAX


async def _first_of(under_way: "dict[asyncio.Task[None], int]") -> None:
    """Wait for the first of these burials, and raise what it raised."""
    done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
    errors = [burial.exception() for burial in done]
    for burial in done:
        del under_way[burial]
    for error in errors:
        if error is not None:
            raise error


def _reply_of(delivery: Delivery, settled: Sequence[ItemResult]) -> Reply | None:
    """Return the result that is owed for a message, if one is.

    A reused key stands for another request, and what was quarantined has no result yet.
    """
    reply_to = delivery.properties.reply_to_octets
    if not reply_to or not isinstance(delivery.content, Requested):
        return None
    queue = reply_queue(reply_to, submitter=delivery.content.submitter)
    if queue is None:
        metrics.REPLIES_REFUSED.inc()
        log.info(
            "reply_refused",
            submitter=delivery.content.submitter,
            reply_to=delivery.properties.reply_to,
        )
        return None
    ids = [
        one.transaction_id
        for one in settled
        if isinstance(one, ItemOutcome) and not one.is_key_reused
    ]
    return Reply(delivery, queue, ids, delivery.content.submitter)
