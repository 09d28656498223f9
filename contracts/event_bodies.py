"""Bodies of events, as the bytes that travel: one for each transaction that is posted.

The common case is written out as text, without the dictionaries between: half the time. A property
test holds it against the documents of contracts/views.py, byte by byte.
"""

import functools
from datetime import datetime
from json.encoder import encode_basestring as quoted
from operator import itemgetter
from typing import Final, NamedTuple
from uuid import UUID

import orjson

from contracts.identifiers import external_wallet_id, reference_of
from contracts.money import format_minor
from contracts.views import Row, format_moment, render_event, render_transaction


class PostedRow(NamedTuple):
    """A row of `transaction_views` whose transaction is posted, and no part of a reversal."""

    id: UUID
    idempotency_key: str
    submitter: str
    channel: str
    type: str
    source_wallet_id: UUID
    destination_wallet_id: UUID
    amount: int
    currency: str
    status: str
    description: str | None
    metadata: str | None
    """Canonical JSON."""
    source_sequence: int
    source_balance_after: int
    destination_sequence: int
    destination_balance_after: int
    created_at: datetime
    completed_at: datetime
    request_id: str | None
    traceparent: str | None


# One call for all columns: looked up one by one they cost twice as much.
_COLUMNS: Final = itemgetter(*PostedRow._fields)


def posted_row(row: Row) -> PostedRow | None:
    """Return a row that is posted, and no part of a reversal; None for any other."""
    is_plain = (
        row["source_sequence"] is not None
        and row["reverses"] is None
        and row["reversed_by"] is None
    )
    return PostedRow(*_COLUMNS(row)) if is_plain else None


def event_body(row: Row, *, event_id: str, event_type: str, occurred_at: str) -> bytes:
    """Return the JSON of the event that tells of a row of `transaction_views`."""
    posted = posted_row(row)
    if posted is not None:
        return posted_event_body(
            posted, event_id=event_id, event_type=event_type, occurred_at=occurred_at
        )
    transaction = render_transaction(row)
    return orjson.dumps(
        render_event(transaction, event_id=event_id, event_type=event_type, occurred_at=occurred_at)
    )


def posted_event_body(row: PostedRow, *, event_id: str, event_type: str, occurred_at: str) -> bytes:
    """Return the same bytes for a posted row: names and values in `TransactionEvent`'s order."""
    (
        transaction_id, key, submitter, channel, kind, source_id, destination_id, minor, currency,
        status, description, metadata, debit, source_after, credit, destination_after, created_at,
        completed_at, _, _,
    ) = row  # fmt: skip
    source, destination, external = f'"{source_id}"', f'"{destination_id}"', _external(currency)
    amount = format_minor(minor, currency)
    return (
        f'{{"event_id":"{event_id}","event_type":"{event_type}","occurred_at":"{occurred_at}",'
        f'"id":"{transaction_id}","reference":"{reference_of(transaction_id)}",'
        f'"idempotency_key":{quoted(key)},"submitter":{quoted(submitter)},'
        f'"channel":"{channel}","type":"{kind}",'
        f'"source_wallet_id":{"null" if source == external else source},'
        f'"destination_wallet_id":{"null" if destination == external else destination},'
        f'"amount":"{amount}","currency":"{currency}","status":"{status}","failure":null,'
        f'"description":{"null" if description is None else quoted(description)},'
        f'"metadata":{metadata or "{}"},"reverses":null,"reversed_by":null,"entries":['
        f'{{"wallet_id":{source},"sequence":{debit},"amount":"-{amount}",'
        f'"balance_before":"{format_minor(source_after + minor, currency)}",'
        f'"balance_after":"{format_minor(source_after, currency)}"}},'
        f'{{"wallet_id":{destination},"sequence":{credit},"amount":"{amount}",'
        f'"balance_before":"{format_minor(destination_after - minor, currency)}",'
        f'"balance_after":"{format_minor(destination_after, currency)}"}}],'
        f'"created_at":"{format_moment(created_at)}",'
        f'"completed_at":"{format_moment(completed_at)}"}}'
    ).encode()


@functools.cache  # as many answers as currencies
def _external(currency: str) -> str:
    return f'"{external_wallet_id(currency)}"'
