"""Transactions' changes of state as JSON: what events, their log and webhooks carry; pure.

The event of a posted transaction is written out as text, for half the time; a property test holds
it against the documents byte by byte.
"""

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from json.encoder import encode_basestring as quoted
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

import orjson
from pydantic import Field

from contracts.identifiers import external_wallet_id, reference_of
from contracts.money import format_minor
from contracts.representations.transaction import (
    Json,
    Open,
    Row,
    Timestamp,
    Transaction,
    WalletAfter,
    format_moment,
    plain_terms,
    render_transaction,
    render_wallet_after,
)
from ledger.state import WalletState
from ledger.words import HoldStatus, TransactionStatus, TransactionType


class TransactionEvent(Transaction):
    """A transaction's change of state, at least once; duplicates share `event_id`."""

    event_id: UUID
    event_type: Open[
        Literal[
            "transaction.completed",
            "transaction.failed",
            "transaction.reversed",
            "transaction.quarantined",
            "transaction.hold_expired",
        ]
    ]
    occurred_at: Timestamp
    wallets: list[WalletAfter] = Field(
        description="The customers' and internal wallets that it touched, as it left them"
    )


def render_event(
    transaction: Json,
    *,
    event_id: str,
    event_type: str,
    occurred_at: str,
    wallets: Sequence[WalletState] = (),
) -> Json:
    """Return a rendered transaction as the event that tells of it."""
    return {
        "event_id": event_id,
        "event_type": event_type,
        "occurred_at": occurred_at,
        **transaction,
        "wallets": [render_wallet_after(one) for one in wallets],
    }


class PostedRow(NamedTuple):
    """A row of `transaction_views` that is posted, has no terms and is no part of a reversal."""

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
_POSTED_COLUMNS: Final = itemgetter(*PostedRow._fields)


def posted_row(row: Row) -> PostedRow | None:
    """Return a row that is posted, has no terms and is no part of a reversal; None for others."""
    is_plain = (
        row["source_sequence"] is not None
        and row["has_terms"] is None
        and row["reverses"] is None
        and row["reversals"] is None
    )
    return PostedRow(*_POSTED_COLUMNS(row)) if is_plain else None


Limits: TypeAlias = Mapping[str, Sequence[int]]
"""Of wallets by their ids: what is held, and the overdraft limit; both are 0 of those not here."""


NO_LIMITS: Final[Limits] = {}


def event_body(
    row: Row,
    *,
    event_id: str,
    event_type: str,
    occurred_at: str,
    wallets: Sequence[WalletState] | None = None,
    limits: Limits = NO_LIMITS,
) -> bytes:
    """Return the JSON of the event that tells of a row of `transaction_views`.

    `wallets` as the commit left them; None where they follow from the entries and from `limits`.
    The row may have changed since: what it says of its state is as the event has it.
    """
    decided = _as_decided(row, event_type)
    posted = posted_row(decided) if wallets is None else None
    if posted is not None:
        return posted_event_body(
            posted, event_id=event_id, event_type=event_type, occurred_at=occurred_at, limits=limits
        )
    return orjson.dumps(
        render_event(
            render_transaction(decided),
            event_id=event_id,
            event_type=event_type,
            occurred_at=occurred_at,
            wallets=wallets or (),
        )
    )


_DECIDED: Final[Mapping[str, Mapping[str, Any]]] = {
    "transaction.completed": {
        "status": TransactionStatus.COMPLETED,
        "reversed_by": None,
        "reversals": None,
        "reversed_amount": None,
    },
    "transaction.quarantined": {
        "status": TransactionStatus.QUARANTINED,
        "failure_code": None,
        "completed_at": None,
    },
}
"""What the columns of a row had when its event was decided, where they may change later."""


def _as_decided(row: Row, event_type: str) -> Row:
    changed = _DECIDED.get(event_type, {})
    if event_type == "transaction.completed" and row["type"] == TransactionType.HOLD:
        changed = {**changed, "hold": _as_opened(row)}
    return {**dict(row.items()), **changed} if changed else row


def _as_opened(row: Row) -> str:
    """Return a hold as it was when it was posted, in the form of the view's column."""
    *_, expires_at = orjson.loads(row["hold"])
    return orjson.dumps([HoldStatus.OPEN, row["amount"], 0, expires_at]).decode()


def posted_event_body(
    row: PostedRow,
    *,
    event_id: str,
    event_type: str,
    occurred_at: str,
    limits: Limits = NO_LIMITS,
) -> bytes:
    """Return the same bytes for a posted row: names and values in `TransactionEvent`'s order."""
    (
        transaction_id, key, submitter, channel, kind, source_id, destination_id, minor, currency,
        status, description, metadata, debit, source_after, credit, destination_after, created_at,
        completed_at, _, _,
    ) = row  # fmt: skip
    source, destination = f'"{source_id}"', f'"{destination_id}"'
    external, zero = _currency_texts(currency)
    amount = format_minor(minor, currency)
    source_text = format_minor(source_after, currency)
    destination_text = format_minor(destination_after, currency)
    seen_source = "null" if source == external else source
    seen_destination = "null" if destination == external else destination
    wallets = ",".join(
        _wallet_after_text(*side, zero=zero, currency=currency, limits=limits)
        for side in (
            (seen_source, debit, source_after, source_text),
            (seen_destination, credit, destination_after, destination_text),
        )
        if side[0] != "null"
    )
    return (
        f'{{"event_id":"{event_id}","event_type":"{event_type}","occurred_at":"{occurred_at}",'
        f'"id":"{transaction_id}","reference":"{reference_of(transaction_id)}",'
        f'"idempotency_key":{quoted(key)},"submitter":{quoted(submitter)},'
        f'"channel":"{channel}","type":"{kind}",'
        f'"source_wallet_id":{seen_source},"destination_wallet_id":{seen_destination},'
        f'"amount":"{amount}","currency":"{currency}","status":"{status}","failure":null,'
        f'"description":{"null" if description is None else quoted(description)},'
        f'"metadata":{metadata or "{}"},"reverses":null,"reversed_by":null,"entries":['
        f'{{"wallet_id":{source},"sequence":{debit},"amount":"-{amount}",'
        f'"balance_before":"{format_minor(source_after + minor, currency)}",'
        f'"balance_after":"{source_text}"}},'
        f'{{"wallet_id":{destination},"sequence":{credit},"amount":"{amount}",'
        f'"balance_before":"{format_minor(destination_after - minor, currency)}",'
        f'"balance_after":"{destination_text}"}}],'
        f'"created_at":"{format_moment(created_at)}",'
        f'"completed_at":"{format_moment(completed_at)}",{plain_terms(currency)},'
        f'"wallets":[{wallets}]}}'
    ).encode()


def _wallet_after_text(
    quoted_id: str,
    version: int,
    balance: int,
    balance_text: str,
    *,
    zero: str,
    currency: str,
    limits: Limits,
) -> str:
    """Return what `render_wallet_after` comes to as JSON."""
    held_text, available_text = zero, balance_text
    # Only few wallets have a limit, or money that is held.
    found = limits.get(quoted_id[1:-1]) if limits else None
    if found is not None:
        held, limit = found
        held_text = format_minor(held, currency) if held else zero
        available_text = format_minor(balance - held + limit, currency)
    return (
        f'{{"wallet_id":{quoted_id},"version":{version},"balance":"{balance_text}",'
        f'"held":"{held_text}","available":"{available_text}"}}'
    )


@functools.cache  # as many answers as currencies
def _currency_texts(currency: str) -> tuple[str, str]:
    """Return the id of a currency's external wallet in quotes, and nothing as an amount."""
    return f'"{external_wallet_id(currency)}"', format_minor(0, currency)
