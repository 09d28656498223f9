"""A review as operators read it: what a rule holds back, and what became of it."""

from uuid import UUID

from pydantic import BaseModel, Field

from contracts.money import format_minor
from contracts.representations.pages import NextCursor
from contracts.representations.transaction import Amount, Json, Row, Timestamp, format_moment
from ledger.words import ReviewState, TransactionStatus, TransactionType


class Review(BaseModel):
    """A transaction that a rule holds back until an operator has decided."""

    id: UUID
    state: ReviewState
    rule: str = Field(description="The name of the rule")
    transaction_id: UUID
    transaction_status: TransactionStatus = Field(
        description="PENDING while it waits; after an approval until it is posted or refused"
    )
    batch_id: UUID | None = Field(
        description="The atomic batch that waits with it: all of it is posted, or none"
    )
    submitter: str
    type: TransactionType
    source_wallet_id: UUID | None
    destination_wallet_id: UUID | None
    amount: Amount | None
    currency: str | None
    created_at: Timestamp = Field(description="When it was held back")
    decided_at: Timestamp | None
    decided_by: str | None
    reason: str | None


class ReviewPage(BaseModel):
    """Reviews, the newest first."""

    items: list[Review]
    next_cursor: NextCursor


def render_review(row: Row) -> Json:
    """Return a review with its transaction's columns as `Review` has it."""
    amount, currency, decided_at = row["amount"], row["currency"], row["decided_at"]
    has_amount = amount is not None and currency is not None
    return {
        "id": str(row["id"]),
        "state": row["state"],
        "rule": row["rule"],
        "transaction_id": str(row["transaction_id"]),
        "transaction_status": row["transaction_status"],
        "batch_id": _text(row["batch_id"]),
        "submitter": row["submitter"],
        "type": row["type"],
        "source_wallet_id": _text(row["source_wallet_id"]),
        "destination_wallet_id": _text(row["destination_wallet_id"]),
        "amount": format_minor(amount, currency) if has_amount else None,
        "currency": currency,
        "created_at": format_moment(row["created_at"]),
        "decided_at": None if decided_at is None else format_moment(decided_at),
        "decided_by": row["decided_by"],
        "reason": row["reason"],
    }


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
