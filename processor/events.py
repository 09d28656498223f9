"""What the relay publishes: the events of owed outbox rows; pure."""

from typing import NamedTuple
from uuid import UUID

from contracts.event_bodies import event_body
from contracts.identifiers import event_id
from contracts.messages import REQUEST_ID_HEADER, TRACEPARENT_HEADER
from contracts.topology import EVENTS_EXCHANGE
from contracts.views import Row, format_moment
from runtime.publisher import Outgoing


class OwedEvent(NamedTuple):
    """One event that a commit owes: what became of one transaction."""

    outbox_id: UUID
    event_type: str
    occurred_at: str
    transaction_id: UUID


def owed_events(row: Row) -> list[OwedEvent]:
    """Return the events that an outbox row stands for, in the order of its transactions."""
    outbox_id, event_type, at = row["id"], row["event_type"], format_moment(row["created_at"])
    return [OwedEvent(outbox_id, event_type, at, one) for one in row["transaction_ids"]]


def event_message(owed: OwedEvent, transaction: Row) -> Outgoing:
    """Return an owed event as the message that tells of it, with the transaction as it is now."""
    event_type = owed.event_type
    return Outgoing(
        exchange=EVENTS_EXCHANGE,
        routing_key=f"transaction.{event_type}.{transaction['type']}.{transaction['currency']}",
        body=event_body(
            transaction,
            event_id=event_id(owed.outbox_id, owed.transaction_id),
            event_type=f"transaction.{event_type}",
            occurred_at=owed.occurred_at,
        ),
        type=f"transaction.{event_type}.v1",
        headers=_trace_headers(transaction),
        # Nobody has to listen: an event without a subscriber is not a failure.
        is_mandatory=False,
    )


def _trace_headers(transaction: Row) -> dict[str, str]:
    """What the request was called, as far as it was called anything."""
    headers: dict[str, str] = {}
    if (traceparent := transaction["traceparent"]) is not None:
        headers[TRACEPARENT_HEADER] = traceparent
    if (request_id := transaction["request_id"]) is not None:
        headers[REQUEST_ID_HEADER] = request_id
    return headers
