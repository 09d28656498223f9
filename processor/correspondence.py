"""What the processor writes to others: dead letters and results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson
import structlog

from contracts.messages import (
    DETAIL_HEADER,
    QUEUE_HEADER,
    REASON_HEADER,
    RECORDED_TYPE,
    RESULT_TYPE,
    SUBMITTER_HEADER,
    TRANSACTION_HEADER,
    DeadLetterReason,
)
from contracts.topology import DEAD_LETTERS
from contracts.views import render_transaction
from processor.consumer import Delivery
from runtime.database import UNREACHABLE, Pool
from runtime.publisher import NotConfirmedError, Outgoing, Publisher, UnroutableError
from runtime.queries import load_queries

CONFIRM_TIMEOUT_S: Final = 5.0
DETAIL_MAX: Final = 1000
"""Characters of a dead letter's detail: it travels as a header."""

_PASSING: Final[tuple[type[BaseException], ...]] = (NotConfirmedError, *UNREACHABLE)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why a message is buried; `body`, if given, stands in for the original."""

    reason: DeadLetterReason
    detail: str
    transaction_id: UUID | None = None
    body: bytes | None = None


class Correspondence:
    """Publishes dead letters, and results to whoever asked with `reply_to`."""

    def __init__(self, *, publisher: Publisher, pool: Pool, queue: str) -> None:
        self._publisher = publisher
        self._pool = pool
        self._queue = queue
        self._sql = load_queries("processor")

    async def bury(self, delivery: Delivery, letter: DeadLetter) -> bool:
        """Publish the message as a dead letter; return whether the broker confirmed it."""
        properties = delivery.properties
        headers = {
            REASON_HEADER: letter.reason.value,
            DETAIL_HEADER: letter.detail[:DETAIL_MAX],
            QUEUE_HEADER: self._queue,
        }
        if properties.user_id:
            headers[SUBMITTER_HEADER] = properties.user_id
        if letter.transaction_id is not None:
            headers[TRANSACTION_HEADER] = str(letter.transaction_id)
        message = Outgoing(
            exchange=DEAD_LETTERS,
            routing_key=self._queue,
            body=delivery.body if letter.body is None else letter.body,
            type=properties.message_type or "" if letter.body is None else RECORDED_TYPE,
            content_type=properties.content_type,
            correlation_id=properties.correlation_id,
            headers=headers,
        )
        try:
            await self._publisher.publish(message, timeout_s=CONFIRM_TIMEOUT_S)
        except NotConfirmedError as error:
            log.warning("dead_letter_not_confirmed", error=str(error))
            return False
        return True

    async def reply(self, delivery: Delivery, transaction_ids: Sequence[UUID]) -> None:
        """Send the result message. A reply queue that is gone, or a lost broker, costs the reply.

        The transaction itself is safe, and readable over HTTP; a redelivery replies again.
        """
        try:
            async with self._pool.acquire() as connection:
                rows = await connection.fetch(self._sql["read_transactions"], transaction_ids)
            message = _result(delivery, transaction_ids, {row["id"]: row for row in rows})
            await self._publisher.publish(message, timeout_s=CONFIRM_TIMEOUT_S)
        except UnroutableError:
            log.info("reply_queue_gone", reply_to=delivery.properties.reply_to)
        except _PASSING as error:
            log.warning("reply_lost", reply_to=delivery.properties.reply_to, error=repr(error))


def _result(delivery: Delivery, transaction_ids: Sequence[UUID], rows: dict[UUID, Any]) -> Outgoing:
    views = [render_transaction(rows[one]) for one in transaction_ids if one in rows]
    return Outgoing(
        exchange="",
        routing_key=delivery.properties.reply_to or "",
        body=orjson.dumps({"version": 1, "transactions": views}),
        type=RESULT_TYPE,
        correlation_id=delivery.properties.correlation_id,
    )
