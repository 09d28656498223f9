"""What is known of the books' integrity, as operators read it; pure."""

from enum import StrEnum
from uuid import UUID

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
