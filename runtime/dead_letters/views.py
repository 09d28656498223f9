"""Dead letters as operators see them, and what became of one; pure."""

import base64
import codecs
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from contracts.messages import EVENT_REASONS
from contracts.pages import BodyEncoding, DeadLetterFate, DeadLetterState
from contracts.topology import EVENTS_EXCHANGE
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
    """A stored dead letter; `body` may be only the beginning of `body_bytes`."""

    id: UUID
    message_id: str
    queue: str
    reason: str
    detail: str
    body: bytes
    body_bytes: int
    headers: str
    """A JSON object, as it was stored."""
    submitter: str | None
    transaction_id: UUID | None
    message_type: str | None
    content_type: str | None
    first_seen_at: datetime
    replayed_at: datetime | None
    discarded_at: datetime | None

    @property
    def is_body_whole(self) -> bool:
        """Whether `body` is all of it."""
        return len(self.body) == self.body_bytes

    @property
    def is_event(self) -> bool:
        """Whether it is an event that was set aside, and no message that came."""
        return self.queue == EVENTS_EXCHANGE and self.reason in EVENT_REASONS

    def header(self, name: str) -> object:
        """Return one header, if the headers can be read."""
        try:
            return orjson.loads(self.headers).get(name)
        except (ValueError, AttributeError):
            return None

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
        body, encoding = _shown(self.body, is_whole=self.is_body_whole)
        return {
            "id": str(self.id),
            "state": self.state.value,
            "queue": self.queue,
            "reason": self.reason,
            "detail": self.detail,
            "body": body,
            "body_encoding": encoding.value,
            "body_bytes": self.body_bytes,
            "is_body_whole": self.is_body_whole,
            # Embedded as stored: they may be deeper than orjson reads or writes.
            "headers": orjson.Fragment(self.headers),
            "submitter": self.submitter,
            "transaction_id": self._shown_transaction_id(),
            "first_seen_at": format_moment(self.first_seen_at),
            "replayed_at": _moment(self.replayed_at),
            "discarded_at": _moment(self.discarded_at),
        }

    def _shown_transaction_id(self) -> str | None:
        """Return the id that operators look for; an event's is in its body alone."""
        if self.transaction_id is not None:
            return str(self.transaction_id)
        if not self.is_event:
            return None
        try:
            return str(UUID(orjson.loads(self.body)["transaction_id"]))
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Dead letters, newest first; `next_cursor` asks for the page behind it, None at the end."""

    items: list[DeadLetter]
    next_cursor: UUID | None


@dataclass(frozen=True, slots=True)
class ReasonCounts:
    """How many there are for each reason; `is_complete` is False when the oldest are not in it."""

    by_reason: dict[str, int]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one dead letter, or with dry_run would become of it."""

    dead_letter_id: UUID
    fate: DeadLetterFate
    detail: str
    transaction_ids: tuple[UUID, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as the contract's `DeadLetterOutcome` has it."""
        return {
            "id": str(self.dead_letter_id),
            "outcome": self.fate.value,
            "detail": self.detail,
            "transaction_ids": [str(one) for one in self.transaction_ids],
        }


def dead_letter_of(row: asyncpg.Record) -> DeadLetter:
    """Return a database row as a dead letter."""
    return DeadLetter(**row)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else format_moment(moment)


def _shown(body: bytes, *, is_whole: bool) -> tuple[str, BodyEncoding]:
    """Return a body as JSON can hold it, so that no byte of it is lost.

    A beginning may end within a character: the part of it is left out.
    """
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(body, final=is_whole)
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), BodyEncoding.BASE64
    return text, BodyEncoding.TEXT
