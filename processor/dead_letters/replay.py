"""What a replay of a dead letter means; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never
from uuid import UUID

from contracts.messages import (
    TRACEPARENT_HEADER,
    PoisonMessageError,
    Recorded,
    Requested,
    decode_message,
)
from contracts.recording import RecordedRow, Submission
from contracts.tracing import valid_traceparent
from processor.dead_letters.views import DeadLetter


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


@dataclass(frozen=True, slots=True)
class StillPoison:
    """The message is as unusable as it was."""

    detail: str


Plan: TypeAlias = PostAgain | RecordAgain | StillPoison


def plan_replay(letter: DeadLetter) -> Plan:
    """Return what replaying means, from the stored body, read anew."""
    if letter.transaction_id is not None:
        return PostAgain([letter.transaction_id], released=letter.transaction_id)
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
        case Requested(submitter=submitter, commands=commands):
            traceparent = valid_traceparent(letter.headers.get(TRACEPARENT_HEADER))
            return RecordAgain(
                [
                    Submission(submitter=submitter, command=command, traceparent=traceparent)
                    for command in commands
                ]
            )
        case other:
            assert_never(other)


def conflicts_of(submissions: Sequence[Submission], rows: Sequence[RecordedRow]) -> list[str]:
    """Return the keys that stand for other content, in their order."""
    return [
        submission.command.idempotency_key
        for submission, row in zip(submissions, rows, strict=True)
        if not row.is_same
    ]
