"""Dead letters as operators see them, and what became of one; pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from contracts.pages import DeadLetterState
from contracts.views import format_moment


class DeadLetterNotFoundError(Exception):
    """There is no dead letter of this id."""


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant; None means any."""

    reason: str | None = None
    submitter: str | None = None
    state: DeadLetterState | None = DeadLetterState.OPEN


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A stored dead letter; in a list, `body` is only the beginning of `body_bytes`."""

    id: UUID
    message_id: str
    queue: str
    reason: str
    detail: str
    body: bytes
    body_bytes: int
    headers: dict[str, Any]
    submitter: str | None
    transaction_id: UUID | None
    message_type: str | None
    content_type: str | None
    first_seen_at: datetime
    replayed_at: datetime | None
    discarded_at: datetime | None

    @property
    def state(self) -> DeadLetterState:
        """What became of it."""
        if self.replayed_at is not None:
            return DeadLetterState.REPLAYED
        if self.discarded_at is not None:
            return DeadLetterState.DISCARDED
        return DeadLetterState.OPEN

    def to_json(self) -> dict[str, Any]:
        """Return it as the contract's `DeadLetter` has it."""
        return {
            "id": str(self.id),
            "state": self.state.value,
            "queue": self.queue,
            "reason": self.reason,
            "detail": self.detail,
            "body": self.body.decode(errors="replace"),
            "headers": self.headers,
            "submitter": self.submitter,
            "transaction_id": None if self.transaction_id is None else str(self.transaction_id),
            "first_seen_at": format_moment(self.first_seen_at),
            "replayed_at": _moment(self.replayed_at),
            "discarded_at": _moment(self.discarded_at),
        }


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Dead letters, newest first; `next_cursor` asks for the page behind it, None at the end."""

    items: list[DeadLetter]
    next_cursor: UUID | None


class Fate(StrEnum):
    """What replaying or discarding did."""

    REPLAYED = "replayed"
    DISCARDED = "discarded"
    REFUSED = "refused"
    """It is still open: the detail says what is in the way."""
    UNCHANGED = "unchanged"
    """It was replayed or discarded before."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one dead letter, or with dry_run would become of it."""

    dead_letter_id: UUID
    fate: Fate
    detail: str
    transaction_ids: tuple[UUID, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        return {
            "id": str(self.dead_letter_id),
            "outcome": self.fate.value,
            "detail": self.detail,
            "transaction_ids": [str(one) for one in self.transaction_ids],
        }


def dead_letter_of(row: asyncpg.Record) -> DeadLetter:
    """Return a database row as a dead letter."""
    return DeadLetter(**{**row, "headers": orjson.loads(row["headers"])})


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else format_moment(moment)
