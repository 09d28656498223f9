"""What the processor writes to others: dead letters and results."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias
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
)
from contracts.replies import escaped, result_body
from contracts.topology import DEAD_LETTERS
from contracts.views import render_transaction
from processor import metrics
from processor.decoding import Delivery
from processor.poster import ACQUIRE_TIMEOUT_S
from runtime.backoff import Backoff
from runtime.database import Pool
from runtime.publisher import NotConfirmedError, Outgoing, Publisher, UnroutableError
from runtime.queries import load_queries
from runtime.resilience.error_classification import Fate, GivenBackError, classify

CONFIRM_TIMEOUT_S: Final = 5.0
DETAIL_MAX: Final = 1000
"""Characters of a dead letter's detail: it travels as a header."""

REPLIES_MAX: Final = 64
"""Results that wait for their confirm at once."""
REPLIES_TIMEOUT_S: Final = 5.0
"""For all results of a batch together: the next batch waits meanwhile."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why a message is buried; `body`, if given, stands in for the original."""

    reason: DeadLetterReason
    detail: str
    transaction_id: UUID | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A result that is owed to the sender of a message, in a queue that it may read."""

    delivery: Delivery
    queue: str
    transaction_ids: Sequence[UUID]


class FailedReply(NamedTuple):
    """A result that could not be written, whoever would have taken it."""

    reply: Reply
    error: Exception


Rows: TypeAlias = Mapping[UUID, asyncpg.Record]
"""Transactions as `transaction_views` shows them, by id."""


class Correspondence:
    """Publishes dead letters, and results to whoever asked with `reply_to`."""

    def __init__(self, *, publisher: Publisher, pool: Pool, queue: str) -> None:
        self._publisher = publisher
        self._pool = pool
        self._queue = queue
        self._sql = load_queries("processor")

    async def bury(
        self, delivery: Delivery, letter: DeadLetter, *, is_ours: Callable[[], bool]
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
        await self.bury(delivery, DeadLetter(reason, detail), is_ours=is_ours)

    async def _bury_once(self, delivery: Delivery, letter: DeadLetter) -> bool:
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

    def _letter(self, delivery: Delivery, letter: DeadLetter) -> Outgoing:
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

    def _least_letter(self, delivery: Delivery, letter: DeadLetter) -> Outgoing:
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
        except Exception as error:
            if classify(error) is Fate.TRANSIENT:
                raise
            if len(replies) == 1:
                return {}, [FailedReply(replies[0], error)]
        else:
            return {row["id"]: row for row in rows}, []
        # One of them cannot be read: find out which.
        found: dict[UUID, asyncpg.Record] = {}
        failed: list[FailedReply] = []
        for one in replies:
            own, broken = await self.read([one])
            found.update(own)
            failed += broken
        return found, failed

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
    views = [render_transaction(rows[one]) for one in reply.transaction_ids if one in rows]
    return Outgoing(
        exchange="",
        routing_key=reply.queue,
        body=result_body(views),
        type=RESULT_TYPE,
        correlation_id=reply.delivery.properties.correlation_id_octets,
    )


def told(error: Exception) -> str:
    """Return an error as a dead letter's detail tells of it."""
    return f"{type(error).__name__}: {error}"
