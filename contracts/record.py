"""Recording: how submissions become the arguments of the database's `record_transactions`.

Submissions with terms go by `record_transactions_with_terms`, which takes one array more. And which
partition posts what was recorded.
"""

import zlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol, cast
from uuid import UUID

from contracts.identifiers import external_wallet_id
from contracts.requests.transaction import Channel, TransactionCommand
from contracts.topology import INTAKE_PARTITION
from ledger.words import TransactionType


class Submission(NamedTuple):
    """A command with its submitter, and what its request can be traced by."""

    submitter: str
    command: TransactionCommand
    request_id: str | None = None
    traceparent: str | None = None


class RecordedRow(NamedTuple):
    """What `record_transactions` tells of one submission.

    Not new and not the same means: the key was used with other content.
    """

    id: UUID
    is_new: bool
    is_same: bool
    is_pending: bool
    created_at: datetime


class RecordedView(Protocol):
    """What of `transaction_views` never changes: a dictionary, or a row that was read."""

    def values(self) -> Iterable[Any]:
        """The values, in the order of RECORDED_COLUMNS; others may stand behind them."""

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names and values."""

    def __getitem__(self, name: str, /) -> Any:
        """One value by its name."""


RECORDED_COLUMNS: Final = (
    "id",
    "type",
    "source_wallet_id",
    "destination_wallet_id",
    "amount",
    "currency",
    "idempotency_key",
    "submitter",
    "channel",
    "description",
    "metadata",
    "request_id",
    "traceparent",
    "reverses",
    "created_at",
    "has_terms",
)


def recording_arguments(submissions: Sequence[Submission]) -> tuple[list[Any], ...]:
    """Return the function's arrays, one element a submission, in its order of arguments.

    Where one of them `have_terms`, they are the other function's, whose last array is the terms.
    """
    if have_terms(submissions):
        rows = [_arguments_with_terms(submission) for submission in submissions]
    else:
        rows = [_arguments(submission) for submission in submissions]
    return tuple(map(list, zip(*rows, strict=True))) or tuple([] for _ in range(_ARRAYS))


# Terms are never false: nothing has to be compared, and a group of plain moves is looked at in C.
_TERMS: Final = attrgetter("command.terms")


def partition_of(command: TransactionCommand, *, count: int) -> int:
    """Return the partition, of `count`, whose batches post what a command asks for."""
    return posting_partition(
        command.source_wallet_id,
        command.destination_wallet_id,
        command.currency,
        is_reversal=command.type is TransactionType.REVERSAL,
        count=count,
    )


def posting_partition(
    source_wallet_id: UUID | None,
    destination_wallet_id: UUID | None,
    currency: str | None,
    *,
    is_reversal: bool,
    count: int,
) -> int:
    """Return the partition, of `count`, whose batches post a transaction.

    Either wallet may be the currency's external one, or None, which means the same: then the other
    one counts, or all deposits would go to one partition. Where neither is known, since the
    transaction that was to say it is not there, any will do. A reversal is posted where the
    transaction that it reverses is: after it, although that one may still be waiting there.
    """
    if count == 1:
        return 0
    external = None if currency is None else external_wallet_id(currency)
    wallet_id, other_id = source_wallet_id, destination_wallet_id
    if is_reversal:
        wallet_id, other_id = other_id, wallet_id
    if wallet_id is None or wallet_id == external:
        wallet_id = other_id
    return INTAKE_PARTITION if wallet_id is None else partition_of_wallet(wallet_id, count)


def partition_of_wallet(wallet_id: UUID, count: int) -> int:
    """Return the partition, of `count`, that posts what debits (or only credits) a wallet."""
    return zlib.crc32(wallet_id.bytes) % count


def have_terms(submissions: Iterable[Submission]) -> bool:
    """Whether any submission is more than a plain move."""
    return any(map(_TERMS, submissions))


_ARRAYS: Final = 12


def _arguments_with_terms(submission: Submission) -> tuple[Any, ...]:
    command = submission.command
    if command.terms is None:
        return (*_arguments(submission), None)
    source, destination = recorded_wallets(command)
    return (
        submission.submitter,
        command.idempotency_key,
        command.fingerprint,
        command.type,
        source,
        destination,
        None if command.money is None else command.money.minor,
        command.currency,
        command.description,
        None if command.metadata == b"{}" else command.metadata.decode(),
        submission.request_id,
        submission.traceparent,
        command.terms.to_json(),
    )


def recorded_wallets(command: TransactionCommand) -> tuple[UUID | None, UUID | None]:
    """Return source and destination as a row has them: those outside are filled in."""
    source, destination = command.source_wallet_id, command.destination_wallet_id
    external = None if command.currency is None else external_wallet_id(command.currency)
    if command.type is TransactionType.DEPOSIT:
        return external, destination
    if command.type is TransactionType.WITHDRAWAL:
        return source, external
    return source, destination


def _arguments(submission: Submission) -> tuple[Any, ...]:
    command = submission.command
    money = command.money
    if money is None:
        raise AssertionError("a plain move has an amount")
    minor, currency = money
    return (
        submission.submitter,
        command.idempotency_key,
        command.fingerprint,
        command.type,
        command.source_wallet_id or external_wallet_id(currency),
        command.destination_wallet_id or external_wallet_id(currency),
        minor,
        currency,
        command.description,
        # Most have none, and an absent value takes no room in the row.
        None if command.metadata == b"{}" else command.metadata.decode(),
        submission.request_id,
        submission.traceparent,
    )


def recorded_rows(rows: Sequence[Any], count: int) -> list[RecordedRow]:
    """Return what the function answered, in the order of the submissions.

    A query may tell more, behind the columns of RecordedRow.
    """
    found: list[RecordedRow | None] = [None] * count
    for request, transaction_id, is_new, is_same, is_pending, created_at, *_ in rows:
        found[request] = RecordedRow(transaction_id, is_new, is_same, is_pending, created_at)
    if None in found:
        raise KeyError("record_transactions answered no row for a request")
    return cast(list[RecordedRow], found)


def recorded_views(
    arguments: Sequence[Sequence[Any]], recorded: Sequence[RecordedRow], *, channel: Channel
) -> dict[UUID, RecordedView]:
    """Return the rows that are new, by their ids, as if they had been read again.

    Those with terms are not among them: what they are to be posted as has to be read.
    """
    views: dict[UUID, RecordedView] = {}
    for row, values in zip(recorded, zip(*arguments, strict=True), strict=True):
        (
            submitter, key, _, kind, source, destination, minor, currency, description, metadata,
            request_id, traceparent, *terms,
        ) = values  # fmt: skip
        if not row.is_new or any(terms):
            continue
        columns = (
            row.id, kind, source, destination, minor, currency, key, submitter, channel,
            description, metadata, request_id, traceparent, None, row.created_at, None,
        )  # fmt: skip
        views[row.id] = dict(zip(RECORDED_COLUMNS, columns, strict=True))
    return views
