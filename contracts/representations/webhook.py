"""Webhooks and their deliveries, as JSON; pure."""

from uuid import UUID

import orjson
from pydantic import BaseModel, Field

from contracts.representations.pages import NextCursor
from contracts.representations.transaction import Json, Row, Timestamp, format_moment
from contracts.webhooks import DeliveryStatus, WebhookStatus


class Webhook(BaseModel):
    """Where events are sent."""

    id: UUID
    url: str
    event_types: list[str]
    wallet_ids: list[UUID] | None
    status: WebhookStatus
    failing_since: Timestamp | None = Field(
        description="Since when no delivery has succeeded; after five days it is disabled"
    )
    created_at: Timestamp
    updated_at: Timestamp


class WebhookWithSecret(Webhook):
    """A webhook that was just made."""

    secret: str = Field(description="What deliveries are signed with; it is shown only this once")


class WebhookSecret(BaseModel):
    """A secret that was just made."""

    secret: str = Field(description="It is shown only this once")
    previous_valid_until: Timestamp = Field(
        description="Until then the secret before signs each delivery, too"
    )


class WebhookPage(BaseModel):
    """Webhooks, the oldest first."""

    items: list[Webhook]
    next_cursor: NextCursor


class DeliveryAttempt(BaseModel):
    """One try to deliver."""

    number: int
    at: Timestamp
    response_status: int | None = Field(description="null where no answer came")
    error: str | None
    seconds: float


class WebhookDelivery(BaseModel):
    """One event for one webhook."""

    id: UUID
    webhook_id: UUID
    transaction_id: UUID
    event_id: UUID
    event_type: str
    status: DeliveryStatus
    attempts: list[DeliveryAttempt]
    next_attempt_at: Timestamp | None
    created_at: Timestamp
    delivered_at: Timestamp | None


class WebhookDeliveryPage(BaseModel):
    """Deliveries, the newest first."""

    items: list[WebhookDelivery]
    next_cursor: NextCursor


class WebhookRecoveryResult(BaseModel):
    """What is tried again."""

    deliveries: int


def render_webhook(row: Row) -> Json:
    """Return a row of `webhooks` as `Webhook` has it."""
    failing_since, wallet_ids = row["failing_since"], row["wallet_ids"]
    return {
        "id": str(row["id"]),
        "url": row["url"],
        "event_types": list(row["event_types"]),
        "wallet_ids": None if wallet_ids is None else [str(one) for one in wallet_ids],
        "status": row["status"],
        "failing_since": None if failing_since is None else format_moment(failing_since),
        "created_at": format_moment(row["created_at"]),
        "updated_at": format_moment(row["updated_at"]),
    }


def render_delivery(row: Row) -> Json:
    """Return a delivery with its attempts as `WebhookDelivery` has it."""
    delivered_at = row["delivered_at"]
    is_waiting = row["status"] == DeliveryStatus.PENDING
    return {
        "id": str(row["id"]),
        "webhook_id": str(row["webhook_id"]),
        "transaction_id": row["transaction_id"],
        "event_id": str(row["event_id"]),
        "event_type": row["event_type"],
        "status": row["status"],
        "attempts": [] if row["tries"] is None else orjson.loads(row["tries"]),
        "next_attempt_at": format_moment(row["next_attempt_at"]) if is_waiting else None,
        "created_at": format_moment(row["created_at"]),
        "delivered_at": None if delivered_at is None else format_moment(delivered_at),
    }
