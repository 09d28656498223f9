"""What the relay publishes: the events of owed outbox rows; pure.

An event that cannot be built fails alone: its neighbours are built as if it were not there.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias
from uuid import UUID

from contracts.event_bodies import PostedRow, event_body, posted_event_body
from contracts.identifiers import event_id
from contracts.messages import REQUEST_ID_HEADER, TRACEPARENT_HEADER
from contracts.topology import EVENTS_EXCHANGE
from contracts.views import Row, format_moment
from processor.recent import RecentBatch
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
    origin_id: UUID | None = None
    """The row that they were owed by first, where it was another: event ids are made of it."""

    def event_id(self, transaction_id: UUID) -> str:
        """Return the id of one transaction's event: the same however often it is owed anew."""
        return event_id(self.origin_id or self.outbox_id, transaction_id)


class Place(NamedTuple):
    """One event: the outbox row that owes it, and its transaction."""

    outbox_id: UUID
    transaction_id: UUID


Source: TypeAlias = RecentBatch | Mapping[UUID, Row]
"""Where the transactions of a part are: in memory, or as rows of `transaction_views`."""


class TransactionUnreadableError(Exception):
    """The transaction of an event is not there, or cannot be read."""


@dataclass(slots=True)
class BuiltFlight:
    """The messages of a flight, and what could not be built of it."""

    parts: Sequence[Owed]
    messages: list[Outgoing]
    broken: dict[Place, Exception] = field(default_factory=dict)

    def places(self) -> list[Place]:
        """Return which event each message is."""
        return [
            place
            for part in self.parts
            for one in part.transaction_ids
            if (place := Place(part.outbox_id, one)) not in self.broken
        ]


def owed_by(row: Row) -> Owed:
    """Return the events that an outbox row stands for, in the order of its transactions."""
    at = format_moment(row["created_at"])
    return Owed(
        row["id"], row["event_type"], at, row["transaction_ids"], origin_id=row["origin_id"]
    )


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


def build(parts: Sequence[Owed], sources: Sequence[Source]) -> BuiltFlight:
    """Return the messages of a flight; `sources` are those of its parts, in their order."""
    try:
        messages: list[Outgoing] = []
        for part, source in zip(parts, sources, strict=True):
            messages += _messages(part, source)
    except Exception:  # noqa: BLE001  # whatever it is, one event's fault is not its neighbours'
        return _build_each(parts, sources)
    return BuiltFlight(parts, messages)


def _build_each(parts: Sequence[Owed], sources: Sequence[Source]) -> BuiltFlight:
    flight = BuiltFlight(parts, [])
    for part, source in zip(parts, sources, strict=True):
        for position, one in enumerate(part.transaction_ids):
            single = part._replace(transaction_ids=[one], start=part.start + position)
            try:
                flight.messages += _messages(single, source)
            except Exception as error:  # noqa: BLE001  # it is set aside, with its error
                flight.broken[Place(part.outbox_id, one)] = error
    return flight


def _messages(part: Owed, source: Source) -> list[Outgoing]:
    if isinstance(source, RecentBatch):
        posted = source.rows(part.start, part.start + len(part.transaction_ids))
        return [posted_message(part, row) for row in posted]
    return [event_message(part, _found(source, one)) for one in part.transaction_ids]


def _found(rows: Mapping[UUID, Row], transaction_id: UUID) -> Row:
    row = rows.get(transaction_id)
    if row is None:
        raise TransactionUnreadableError("the transaction is not there, or cannot be read")
    return row


def event_message(owed: Owed, transaction: Row) -> Outgoing:
    """Return the message that tells of a row of `transaction_views`, as it is now."""
    body = event_body(
        transaction,
        event_id=owed.event_id(transaction["id"]),
        event_type=f"transaction.{owed.event_type}",
        occurred_at=owed.occurred_at,
    )
    headers = _trace_headers(transaction["traceparent"], transaction["request_id"])
    return _message(owed.event_type, transaction["type"], transaction["currency"], body, headers)


def posted_message(owed: Owed, transaction: PostedRow) -> Outgoing:
    """Return the same for a row that is known to be posted."""
    body = posted_event_body(
        transaction,
        event_id=owed.event_id(transaction.id),
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
