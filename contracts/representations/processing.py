"""How a transaction came in and what it waits for, as operators read it; pure."""

from uuid import UUID

from pydantic import BaseModel, Field

from contracts.identifiers import is_sampled, trace_id_of, valid_traceparent
from contracts.representations.transaction import (
    Count,
    Json,
    Open,
    Row,
    Timestamp,
    format_moment,
)
from contracts.requests.transaction import Channel


class TransactionProcessing(BaseModel):
    """How a transaction came in, and what it waits for."""

    transaction_id: UUID
    submitter: str
    channel: Open[Channel]
    idempotency_key: str
    request_id: str | None = Field(
        description="The `X-Request-Id` that it came with, or its trace id; null where neither is "
        "known"
    )
    trace_id: str | None = Field(description="The trace of its request, in 32 hexadecimals")
    is_trace_kept: bool = Field(
        description="Whether spans of that trace are sent, where any are: as the sender or the "
        "configured share decided"
    )
    is_unannounced: bool = Field(
        description="Whether it was accepted without the broker's confirm and waits to be announced"
    )
    announced_again: Count = Field(
        description="How often the reconciler has announced it again, while it waits"
    )
    next_announcement_at: Timestamp | None
    review_ids: list[UUID] = Field(description="The reviews of it, open and decided")


def render_processing(row: Row, waiting: Row) -> Json:
    """Return a row of `transaction_views` and what it waits for as `TransactionProcessing`."""
    traceparent, next_at = valid_traceparent(row["traceparent"]), waiting["next_attempt_at"]
    trace_id = None if traceparent is None else trace_id_of(traceparent)
    return {
        "transaction_id": str(row["id"]),
        "submitter": row["submitter"],
        "channel": row["channel"],
        "idempotency_key": row["idempotency_key"],
        "request_id": row["request_id"] or trace_id,
        "trace_id": trace_id,
        "is_trace_kept": traceparent is not None and is_sampled(traceparent),
        "is_unannounced": waiting["is_unannounced"],
        "announced_again": waiting["attempts"],
        "next_announcement_at": None if next_at is None else format_moment(next_at),
        "review_ids": [str(one) for one in waiting["review_ids"]],
    }
