"""Dead letters: as a message becomes one, as operators see it, and what became of it; pure."""

import base64
import codecs
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from contracts.broker_permissions import may_bury
from contracts.dead_letters import GROUP_HOURS, BodyEncoding, DeadLetterFate, DeadLetterState
from contracts.messages import (
    DETAIL_HEADER,
    EVENT_REASONS,
    QUEUE_HEADER,
    REASON_HEADER,
    SUBMITTER_HEADER,
    TRANSACTION_HEADER,
    DeadLetterReason,
)
from contracts.representations.transaction import format_moment
from contracts.topology import DEAD_LETTERS, EVENTS_EXCHANGE
from runtime.amqp.incoming import Properties

DEATH_HEADER: Final = "x-death"
_OUR_HEADERS: Final = frozenset(
    {DETAIL_HEADER, QUEUE_HEADER, REASON_HEADER, SUBMITTER_HEADER, TRANSACTION_HEADER}
)
_DELIVERY_LIMIT: Final = "delivery_limit"
HEADERS_BYTES_MAX: Final = 131_072
"""Of JSON: as much as a frame holds, and far more than anybody reads."""
TEXT_MAX: Final = 2_000
"""Characters: 255 octets that are no text are 1,020 when they are shown; a key of an index holds
2,704 bytes."""
LEAST_TEXT_MAX: Final = 255
LEAST_DETAIL_MAX: Final = 1_000
LEAST_BODY_BYTES_MAX: Final = 1_048_576
"""Of a body that is stored in part: no message that a replay could accept is longer."""
HEXADECIMAL: Final = "application/x-hexadecimal"
"""The content type of a body that is stored as hexadecimal digits; no replay takes it."""
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class CollectedLetter:
    """A dead letter as it is stored; `headers` is JSON, without those of our own."""

    message_id: str
    queue: str
    reason: DeadLetterReason
    detail: str
    body: bytes
    headers: str
    submitter: str | None
    transaction_id: UUID | None
    message_type: str | None
    content_type: str | None


def least_of(letter: CollectedLetter, error: Exception) -> CollectedLetter:
    """Return what can always be stored of a letter that the database refused; its id stays.

    Bounded ASCII texts, no headers, and the beginning of the body as hexadecimal digits, should the
    octets themselves be the trouble. The detail says what was in the way.
    """
    was = f"stored in part, since the whole was refused ({type(error).__name__}: {error}): "
    body = letter.body[:LEAST_BODY_BYTES_MAX]
    return CollectedLetter(
        # It ends with a digest, which tells it from others.
        message_id=_plain(letter.message_id[-LEAST_TEXT_MAX:]) or "-",
        queue=_plain(letter.queue),
        reason=letter.reason,
        detail=_plain(was + letter.detail, LEAST_DETAIL_MAX),
        body=body.hex().encode(),
        headers="{}",
        submitter=None if letter.submitter is None else _plain(letter.submitter),
        transaction_id=letter.transaction_id,
        message_type=None if letter.message_type is None else _plain(letter.message_type),
        content_type=HEXADECIMAL,
    )


def letter_of(body: bytes, properties: Properties, *, own_user: str) -> CollectedLetter:
    """Return what to store of a message, whoever buried it; never raises.

    The processor's dead letters carry our headers and its broker user, or ours (`own_user`). A
    message that the broker buried itself carries the upstream's own headers and a record of its
    death; there the submitter is the validated user, and headers that look like ours are not
    believed: they would let one submitter speak for another.
    """
    headers: Mapping[str, Any] = properties.headers or {}
    death = _first_death(headers)
    if (
        death is None
        and may_bury(properties.user_id, own_user=own_user)
        and REASON_HEADER in headers
    ):
        return _from_processor(body, properties, headers)
    return _from_broker(body, properties, headers, death)


def _from_processor(
    body: bytes, properties: Properties, headers: Mapping[str, Any]
) -> CollectedLetter:
    submitter = headers.get(SUBMITTER_HEADER)
    return CollectedLetter(
        message_id=_message_id("processor", body, properties.message_id, submitter),
        queue=_text(headers.get(QUEUE_HEADER, "")),
        reason=_reason(headers[REASON_HEADER]),
        detail=_text(headers.get(DETAIL_HEADER, "")),
        body=body,
        headers=_json({name: headers[name] for name in headers if name not in _OUR_HEADERS}),
        submitter=_optional_text(submitter),
        transaction_id=_uuid(headers.get(TRANSACTION_HEADER)),
        message_type=_optional_text(properties.message_type),
        content_type=_optional_text(properties.content_type),
    )


def _from_broker(
    body: bytes,
    properties: Properties,
    headers: Mapping[str, Any],
    death: Mapping[str, Any] | None,
) -> CollectedLetter:
    queue = _text(death.get("queue", "")) if death else DEAD_LETTERS
    cause = _text(death.get("reason", "")) if death else ""
    is_limit = cause == _DELIVERY_LIMIT
    moment = death.get("time") if death else None
    return CollectedLetter(
        message_id=_message_id(
            "broker", body, properties.message_id, properties.user_id, queue, moment
        ),
        queue=queue,
        reason=DeadLetterReason.DELIVERY_LIMIT if is_limit else DeadLetterReason.UNKNOWN,
        detail=f"the broker buried it: {cause}" if cause else "published by an unknown sender",
        body=body,
        headers=_json(headers),
        submitter=_optional_text(properties.user_id),
        transaction_id=None,
        message_type=_optional_text(properties.message_type),
        content_type=_optional_text(properties.content_type),
    )


def _first_death(headers: Mapping[str, Any]) -> Mapping[str, Any] | None:
    deaths = headers.get(DEATH_HEADER)
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], Mapping):
        return deaths[0]
    return None


def _message_id(source: str, body: bytes, message_id: str | None, *parts: object) -> str:
    """Name a message the same at each delivery.

    The content enters too: an upstream that calls all of its messages '1' must lose none of them.
    """
    digest = hashlib.sha256(body)
    for part in (message_id, *parts):
        digest.update(b"\x00" + str(part).encode(errors="replace"))
    return f"{source}:{_text(message_id or '-')}:{digest.hexdigest()[:32]}"


def _reason(value: object) -> DeadLetterReason:
    try:
        return DeadLetterReason(_text(value))
    except ValueError:
        return DeadLetterReason.UNKNOWN


def _uuid(value: object) -> UUID | None:
    try:
        return None if value is None else UUID(_text(value))
    except ValueError:
        return None


def _optional_text(value: object) -> str | None:
    return _text(value) if value else None


def _text(value: object) -> str:
    """Text that PostgreSQL stores: NUL and what is not UTF-8 are replaced."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.encode(errors="replace").decode().replace("\x00", _REPLACEMENT)


def _plain(text: str, most: int = LEAST_TEXT_MAX) -> str:
    """Return visible ASCII, bounded."""
    return "".join(one if " " <= one <= "~" else "?" for one in text[:most])


def _json(headers: Mapping[str, Any]) -> str:
    try:
        text = orjson.dumps(headers, default=_text, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, RecursionError):
        # A header that is no JSON at all, or too deep: kept as it prints, for whoever looks at it.
        text = orjson.dumps({"unreadable": _printed(headers)})
    if len(text) > HEADERS_BYTES_MAX:
        text = orjson.dumps({"unreadable": _text(text[:TEXT_MAX])})
    return text.decode()


def _printed(headers: Mapping[str, Any]) -> str:
    try:
        return _text(repr(headers))
    except RecursionError:
        return f"too deep to be shown: {', '.join(map(_text, headers))}"[:TEXT_MAX]


class DeadLetterNotFoundError(Exception):
    """There is no dead letter of this id."""


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant; None means any."""

    reason: str | None = None
    submitter: str | None = None
    state: DeadLetterState | None = DeadLetterState.OPEN
    fingerprint: str | None = None
    """Of a group: those that say the same."""
    until: datetime | None = None
    """Only those that were first seen by then: what came since is not meant."""
    transaction_id: UUID | None = None
    """Of a page alone: those that name this transaction."""


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
    fingerprint: str
    """Equal for those that say the same about different values."""

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
            "fingerprint": self.fingerprint,
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
class DeadLetterGroup:
    """Dead letters that say the same; `detail` is one of theirs."""

    reason: str
    fingerprint: str
    detail: str
    dead_letters: int
    first_seen_at: datetime
    last_seen_at: datetime
    by_hour: tuple[int, ...]
    """How many came in each of the last GROUP_HOURS hours, the newest at the end."""

    def to_json(self) -> dict[str, Any]:
        """Return it as the contract's `DeadLetterGroup` has it."""
        return {
            "reason": self.reason,
            "fingerprint": self.fingerprint,
            "detail": self.detail,
            "dead_letters": self.dead_letters,
            "first_seen_at": format_moment(self.first_seen_at),
            "last_seen_at": format_moment(self.last_seen_at),
            "by_hour": list(self.by_hour),
        }


@dataclass(frozen=True, slots=True)
class DeadLetterGroups:
    """The largest groups first; `is_complete` is False where older ones or groups are left out."""

    items: list[DeadLetterGroup]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class DeadLetterOutcome:
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


def groups_of(rows: Sequence[asyncpg.Record]) -> list[DeadLetterGroup]:
    """Return the rows of `group_dead_letters`, one for each hour, as groups, the largest first."""
    found: dict[tuple[str, str], list[asyncpg.Record]] = {}
    for row in rows:
        if row["dead_letters"]:
            found.setdefault((row["reason"], row["fingerprint"]), []).append(row)
    groups = []
    for (reason, fingerprint), parts in found.items():
        by_hour = [0] * GROUP_HOURS
        for part in parts:
            if part["hours_ago"] < GROUP_HOURS:
                by_hour[GROUP_HOURS - 1 - part["hours_ago"]] += part["dead_letters"]
        groups.append(
            DeadLetterGroup(
                reason=reason,
                fingerprint=fingerprint,
                detail=max(part["detail"] for part in parts),
                dead_letters=sum(part["dead_letters"] for part in parts),
                first_seen_at=min(part["first_seen_at"] for part in parts),
                last_seen_at=max(part["last_seen_at"] for part in parts),
                by_hour=tuple(by_hour),
            )
        )
    return sorted(groups, key=lambda one: (-one.dead_letters, one.reason, one.fingerprint))


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
