"""The trail as clients read it: seals, what checks have found, and the audit log; pure."""

from base64 import b64encode
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import BaseModel, Field

from contracts.identifiers import moment_of
from contracts.representations.pages import NextCursor
from contracts.representations.transaction import (
    Count,
    Json,
    Row,
    Timestamp,
    format_moment,
)

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Seal(BaseModel):
    """One link of the hash chain over all transactions that ended, and over the audit log."""

    number: Count = Field(ge=1, description="Counted from 1, without gaps")
    until: Timestamp = Field(
        description="What was accepted before this moment and had ended when the seal was made is "
        "in this seal or in one before it"
    )
    transactions: Count = Field(
        ge=0, description="How many it covers; 0 where it covers the audit log alone"
    )
    audit_records: Count = Field(ge=0, description="How many records of the audit log it covers")
    digest: Digest = Field(
        description="SHA-256 over the rows of its transactions, entries and audit records, its own "
        "figures and `previous`, in hexadecimals"
    )
    previous: Digest = Field(description="The digest of the seal before; zeros in the first one")
    sealed_at: Timestamp
    signature: str | None = Field(
        description="Ed25519 (RFC 8032) over the 32 bytes of `digest`, in base64; null where seals "
        "are not signed"
    )
    key_id: str | None = Field(
        description="Which key signed it: the first 16 hexadecimals of the public key's SHA-256"
    )


class SealPage(BaseModel):
    """Seals, the newest first."""

    items: list[Seal]
    next_cursor: NextCursor


def render_seal(row: Row) -> Json:
    """Return a row of the table of seals as `Seal` has it."""
    signature = row["signature"]
    return {
        "number": row["number"],
        "until": format_moment(row["until"]),
        "transactions": row["transactions"],
        "audit_records": row["audit_records"],
        "digest": row["digest"].hex(),
        "previous": row["previous"].hex(),
        "sealed_at": format_moment(row["sealed_at"]),
        "signature": None if signature is None else b64encode(signature).decode(),
        "key_id": row["key_id"],
    }


class VerificationState(StrEnum):
    """How far a verification is."""

    REQUESTED = "REQUESTED"
    """A reconciler begins within seconds."""
    RUNNING = "RUNNING"
    ENDED = "ENDED"
    """Its figures say what it came to."""
    FAILED = "FAILED"
    """It came to nothing; `error` says why."""


class Verification(BaseModel):
    """A verification of the whole book, asked for and made once."""

    id: UUID
    state: VerificationState
    requested_by: str
    requested_at: Timestamp
    started_at: Timestamp | None
    ended_at: Timestamp | None
    rows_done: Count = Field(description="How far it is")
    rows_total: Count = Field(description="An estimate, until it has ended")
    wallets: Count | None
    transactions: Count | None
    entries: Count | None
    latest_seal: str | None = Field(
        description="The last seal that it has recomputed, `number:digest`"
    )
    findings: Count | None = Field(
        description="How many mistakes it has found; 0 means that the books are right"
    )
    error: str | None


class Integrity(BaseModel):
    """How far the books are checked, and what came of it."""

    checked_until: Timestamp | None = Field(
        description="What was accepted before is checked as it ended, again and again by itself"
    )
    findings: Count = Field(description="How many findings are kept, counted up to 10,000")
    verification: Verification | None = Field(
        description="The last verification of the whole book that was asked for"
    )


class IntegrityFinding(BaseModel):
    """One thing that is wrong, or was."""

    check: str = Field(examples=["wallet_balance"])
    subject: str = Field(examples=["wallet 019aa3b1-0c4e-7a52-8001-3d6f1b2a9c70"])
    detail: str = Field(examples=["the balance is 101, the entries sum to 100"])
    found_at: Timestamp
    last_found_at: Timestamp = Field(
        description="When a verification of the whole book met it last; one that ended later and "
        "has not met it says that it is mended"
    )


class IntegrityFindingPage(BaseModel):
    """Findings, by check and subject."""

    items: list[IntegrityFinding]
    next_cursor: NextCursor


def render_verification(row: Row) -> Json:
    """Return a row of `verifications` as `Verification` has it."""
    moments = {
        name: None if row[name] is None else format_moment(row[name])
        for name in ("requested_at", "started_at", "ended_at")
    }
    figures = (
        "requested_by", "rows_done", "rows_total", "wallets", "transactions", "entries",
        "latest_seal", "findings", "error",
    )  # fmt: skip
    return {
        "id": str(row["id"]),
        "state": _state_of(row),
        **moments,
        **{name: row[name] for name in figures},
    }


def render_integrity(progress: Row, verification: Row | None) -> Json:
    """Return the state of the checks as `Integrity` has it."""
    until = progress["checked_until"]
    return {
        "checked_until": format_moment(moment_of(until)) if until.int else None,
        "findings": progress["findings"],
        "verification": None if verification is None else render_verification(verification),
    }


def render_finding(row: Row) -> Json:
    """Return a row of `integrity_findings` as `IntegrityFinding` has it."""
    return {
        "check": row["check_name"],
        "subject": row["subject"],
        "detail": row["detail"],
        "found_at": format_moment(row["found_at"]),
        "last_found_at": format_moment(row["last_found_at"] or row["found_at"]),
    }


def _state_of(row: Row) -> VerificationState:
    if row["error"] is not None:
        return VerificationState.FAILED
    if row["ended_at"] is not None:
        return VerificationState.ENDED
    if row["started_at"] is not None:
        return VerificationState.RUNNING
    return VerificationState.REQUESTED


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
