"""Recording: how submissions become the arguments of the database's `record_transactions`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.identifiers import external_wallet_id
from contracts.transactions import TransactionCommand


@dataclass(frozen=True, slots=True)
class Submission:
    """A command with its submitter, and what its request can be traced by."""

    submitter: str
    command: TransactionCommand
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """What `record_transactions` tells of one submission.

    Not new and not the same means: the key was used with other content.
    """

    id: UUID
    is_new: bool
    is_same: bool
    is_pending: bool
    created_at: datetime


def recording_arguments(submissions: Sequence[Submission]) -> tuple[list[Any], ...]:
    """Return the function's arrays, one element a submission, in its order of arguments."""
    commands = [submission.command for submission in submissions]
    return (
        [submission.submitter for submission in submissions],
        [command.idempotency_key for command in commands],
        [command.fingerprint for command in commands],
        [command.type.value for command in commands],
        [
            command.source_wallet_id or external_wallet_id(command.money.currency)
            for command in commands
        ],
        [
            command.destination_wallet_id or external_wallet_id(command.money.currency)
            for command in commands
        ],
        [command.money.minor for command in commands],
        [command.money.currency for command in commands],
        [command.description for command in commands],
        # Most have none, and an absent value takes no room in the row.
        [None if command.metadata == b"{}" else command.metadata.decode() for command in commands],
        [submission.request_id for submission in submissions],
        [submission.traceparent for submission in submissions],
    )


def recorded_rows(rows: Sequence[Any], count: int) -> list[RecordedRow]:
    """Return what the function answered, in the order of the submissions."""
    found: dict[int, RecordedRow] = {
        row["request"]: RecordedRow(
            id=row["id"],
            # Null from a call that inserted nothing at all.
            is_new=bool(row["is_new"]),
            is_same=row["is_same"],
            is_pending=row["is_pending"],
            created_at=row["created_at"],
        )
        for row in rows
    }
    return [found[index] for index in range(count)]
