"""What a replay of a dead letter means; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias, assert_never
from uuid import UUID

import orjson

from contracts.identifiers import valid_traceparent
from contracts.messages import (
    CORRELATION_HEADER,
    MESSAGE_BYTES_MAX,
    REPLY_TO_HEADER,
    TRACEPARENT_HEADER,
    DeadLetterReason,
    PoisonMessageError,
    Recorded,
    Requested,
    decode_message,
    reply_queue,
    unescaped,
)
from contracts.record import RecordedRow, Submission
from dead_letters.model import DeadLetter

DETAIL_MAX: Final = 500
"""Characters: keys may be long, and the audit log keeps each detail for ever."""


@dataclass(frozen=True, slots=True)
class PostAgain:
    """Transactions that are recorded: those still PENDING are to be posted.

    `released` was quarantined with this dead letter, and becomes PENDING again first.
    """

    transaction_ids: Sequence[UUID]
    released: UUID | None


@dataclass(frozen=True, slots=True)
class RecordAgain:
    """Submissions under their original keys and submitter: what is recorded already stays so."""

    submissions: list[Submission]
    is_atomic: bool = False
    """Whether they are recorded together or not at all."""


@dataclass(frozen=True, slots=True)
class StillPoison:
    """The message is as unusable as it was."""

    detail: str


@dataclass(frozen=True, slots=True)
class OweAgain:
    """An event that was set aside: the relay owes it anew, under the event id that it had."""

    origin_id: UUID
    event_type: str
    transaction_id: UUID
    occurred_at: datetime
    wallets: str
    """JSON in the form of the column `outbox.wallets`."""


@dataclass(frozen=True, slots=True)
class SendAgain:
    """The result of a message whose transactions are as they should be."""

    submissions: list[Submission]
    submitter: str
    queue: str
    correlation_id: bytes | None


Plan: TypeAlias = PostAgain | RecordAgain | OweAgain | SendAgain | StillPoison


def plan_replay(letter: DeadLetter) -> Plan:
    """Return what replaying means, from the stored body, read anew."""
    if letter.is_event:
        return _owed_again(letter)
    if letter.transaction_id is not None:
        return PostAgain([letter.transaction_id], released=letter.transaction_id)
    if not letter.is_body_whole:
        # Only so much was read; nothing longer is ever accepted.
        return StillPoison(
            f"{DeadLetterReason.MESSAGE_TOO_LARGE}: {letter.body_bytes} bytes, "
            f"{MESSAGE_BYTES_MAX} at most"
        )
    try:
        content = decode_message(
            letter.body,
            message_type=letter.message_type,
            content_type=letter.content_type,
            user_id=letter.submitter,
        )
    except PoisonMessageError as error:
        return StillPoison(str(error))
    match content:
        case Recorded(transaction_ids):
            return PostAgain(transaction_ids, released=None)
        case Requested(submitter=submitter, commands=commands, is_atomic=is_atomic):
            traceparent = valid_traceparent(letter.header(TRACEPARENT_HEADER))
            submissions = [
                Submission(submitter=submitter, command=command, traceparent=traceparent)
                for command in commands
            ]
            if letter.reason == DeadLetterReason.REPLY_NOT_SENT:
                return _sent_again(letter, submissions, submitter=submitter)
            return RecordAgain(submissions, is_atomic=is_atomic)
        case other:
            assert_never(other)


def _sent_again(
    letter: DeadLetter, submissions: list[Submission], *, submitter: str
) -> SendAgain | StillPoison:
    named = letter.header(REPLY_TO_HEADER)
    queue = reply_queue(named.encode(), submitter=submitter) if isinstance(named, str) else None
    if queue is None:
        return StillPoison("it names no queue for its result: tell its sender, discard it")
    correlation = letter.header(CORRELATION_HEADER)
    return SendAgain(
        submissions,
        submitter,
        queue,
        unescaped(correlation) if isinstance(correlation, str) else None,
    )


def _owed_again(letter: DeadLetter) -> OweAgain | StillPoison:
    try:
        event = orjson.loads(letter.body)
        return OweAgain(
            UUID(event["origin_id"]),
            event["event_type"],
            UUID(event["transaction_id"]),
            datetime.fromisoformat(event["occurred_at"]),
            orjson.dumps(event.get("wallets", {})).decode(),
        )
    except (ValueError, KeyError, TypeError) as error:
        return StillPoison(f"the body names no event: {error!r}"[:DETAIL_MAX])


def conflicts_of(submissions: Sequence[Submission], rows: Sequence[RecordedRow]) -> list[str]:
    """Return the keys that stand for other content, in their order."""
    return [
        submission.command.idempotency_key
        for submission, row in zip(submissions, rows, strict=True)
        if not row.is_same
    ]


def recording_detail(rows: Sequence[RecordedRow], conflicts: Sequence[str]) -> str:
    """Return what recording again came to, in a sentence for operators."""
    same = [row for row in rows if row.is_same]
    known = [row for row in same if not row.is_new]
    waiting = sum(row.is_pending for row in known)
    parts = [f"{len(same) - len(known)} recorded"] if len(same) > len(known) else []
    if waiting:
        parts.append(f"{waiting} recorded before and still to be posted")
    if len(known) > waiting:
        parts.append(f"{len(known) - waiting} ended before: nothing was changed")
    if conflicts:
        keys = ", ".join(conflicts[:3])
        parts.append(f"{len(conflicts)} keys stand for other content, such as {keys}")
    return "; ".join(parts)[:DETAIL_MAX]


def posting_detail(*, named: int, pending: int) -> str:
    """Return what posting again came to: of the named transactions, so many are PENDING."""
    if pending == named:
        return "posted again"
    if pending == 0:
        return "nothing is left to be posted: nothing was changed"
    return f"{pending} of {named} posted again; nothing is left to be done for the others"
