"""What the relay publishes: the events of owed outbox rows; pure."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from contracts.event_bodies import PostedRow, event_body, posted_event_body
from contracts.identifiers import event_id
from contracts.messages import REQUEST_ID_HEADER, TRACEPARENT_HEADER
from contracts.topology import EVENTS_EXCHANGE
from contracts.views import Row, format_moment
from runtime.publisher import Outgoing


class Owed(NamedTuple):
    """Events that a commit owes: what became of its transactions, or of some in a row."""

    outbox_id: UUID
    event_type: str
    occurred_at: str
    transaction_ids: Sequence[UUID]
    start: int = 0
    """How many transactions of the outbox row stand before them."""
    is_last: bool = True
    """Whether none stand behind them."""


def owed_by(row: Row) -> Owed:
    """Return the events that an outbox row stands for, in the order of its transactions."""
    at = format_moment(row["created_at"])
    return Owed(row["id"], row["event_type"], at, row["transaction_ids"])


def flights(owed: Sequence[Owed], size: int) -> Iterator[list[Owed]]:
    """Cut what is owed into flights of `size` events, in order; the last may be smaller."""
    flight: list[Owed] = []
    room = size
    for one in owed:
        count = len(one.transaction_ids)
        start = 0
        while start < count:
            stop = min(start + room, count)
            ids = one.transaction_ids[start:stop]
            flight.append(one._replace(transaction_ids=ids, start=start, is_last=stop == count))
            room -= stop - start
            start = stop
            if not room:
                yield flight
                flight, room = [], size
    if flight:
        yield flight


def event_message(owed: Owed, transaction: Row) -> Outgoing:
    """Return the message that tells of a row of `transaction_views`, as it is now."""
    body = event_body(
        transaction,
        event_id=event_id(owed.outbox_id, transaction["id"]),
        event_type=f"transaction.{owed.event_type}",
        occurred_at=owed.occurred_at,
    )
    headers = _trace_headers(transaction["traceparent"], transaction["request_id"])
    return _message(owed.event_type, transaction["type"], transaction["currency"], body, headers)


def posted_message(owed: Owed, transaction: PostedRow) -> Outgoing:
    """Return the same for a row that is known to be posted."""
    body = posted_event_body(
        transaction,
        event_id=event_id(owed.outbox_id, transaction.id),
        event_type=f"transaction.{owed.event_type}",
        occurred_at=owed.occurred_at,
    )
    headers = _trace_headers(transaction.traceparent, transaction.request_id)
    return _message(owed.event_type, transaction.type, transaction.currency, body, headers)


def _message(
    event_type: str, kind: str, currency: str, body: bytes, headers: dict[str, str]
) -> Outgoing:
    return Outgoing(
        exchange=EVENTS_EXCHANGE,
        routing_key=_routing_key(event_type, kind, currency),
        body=body,
        type=_message_type(event_type),
        headers=headers,
        # Nobody has to listen: an event without a subscriber is not a failure.
        is_mandatory=False,
    )


@functools.cache  # as many answers as types and currencies
def _routing_key(event_type: str, kind: str, currency: str) -> str:
    return f"transaction.{event_type}.{kind}.{currency}"


@functools.cache
def _message_type(event_type: str) -> str:
    return f"transaction.{event_type}.v1"


def _trace_headers(traceparent: str | None, request_id: str | None) -> dict[str, str]:
    """What the request was called, as far as it was called anything."""
    headers: dict[str, str] = {}
    if traceparent is not None:
        headers[TRACEPARENT_HEADER] = traceparent
    if request_id is not None:
        headers[REQUEST_ID_HEADER] = request_id
    return headers
