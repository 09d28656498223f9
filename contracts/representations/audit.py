"""Records of the audit log as clients read them."""

from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel, Field

from contracts.representations.pages import NextCursor
from contracts.representations.transaction import Json, Row, Timestamp, format_moment


class AuditRecord(BaseModel):
    """One act: who did what to which thing, when, and over HTTP from where by which request."""

    id: UUID
    occurred_at: Timestamp
    actor: str = Field(
        description="The submitter; `cli:` and a login for the command line",
        examples=["back-office", "cli:ann"],
    )
    action: str = Field(examples=["wallet.changed", "dead_letter.replayed", "client.disabled"])
    subject: str = Field(
        description="What it was done to: its kind, a colon and its id or name",
        examples=["wallet:019aa3b1-0c4e-7a52-8001-3d6f1b2a9c70"],
    )
    detail: dict[str, Any] = Field(description="What else is known; it depends on the action")
    address: str | None = Field(
        description="Where the request came from; behind a proxy, the proxy's",
        examples=["192.0.2.7"],
    )
    request_id: str | None = Field(description="The `X-Request-Id` of the request")


class AuditPage(BaseModel):
    """Records of the audit log, the newest first."""

    items: list[AuditRecord]
    next_cursor: NextCursor


def render_audit_record(row: Row) -> Json:
    """Return a row of the audit log as `AuditRecord` has it; its `detail` is JSON text."""
    detail = orjson.loads(row["detail"])
    return {
        "id": str(row["id"]),
        "occurred_at": format_moment(row["occurred_at"]),
        "actor": row["actor"],
        "action": row["action"],
        "subject": row["subject"],
        "detail": detail,
        "address": row["address"],
        # Releases before there was a column kept it in the detail.
        "request_id": row["request_id"] or detail.get("request_id"),
    }
