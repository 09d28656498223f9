"""Transactions, wallets and entries as JSON: the same over HTTP, in results and in events; pure.

The models give the documents their schemas. The `render_…` functions build the same shape from
database rows: they run for every read, where a model a row costs too much. The event of a posted
transaction is written out as text, for half the time; a property test holds it against the
documents byte by byte.
"""

import functools
from datetime import UTC, datetime
from json.encoder import encode_basestring as quoted
from operator import itemgetter
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol, TypeAlias
from uuid import UUID

import orjson
from pydantic import AwareDatetime, BaseModel, Field

from contracts.identifiers import external_wallet_id, reference_of
from contracts.money import format_minor
from contracts.requests.transaction import Channel
from ledger.words import FailureCode, TransactionStatus, TransactionType, WalletKind, WalletStatus


class Row(Protocol):
    """A database row: its columns by name."""

    def __getitem__(self, column: str, /) -> Any:
        """Return a column's value."""


Json = dict[str, Any]

Amount = Annotated[str, Field(description="Major units, a decimal string", examples=["100.50"])]
Timestamp = Annotated[AwareDatetime, Field(description="RFC 3339, UTC, microseconds")]


class Wallet(BaseModel):
    """A wallet: `available` = `balance` - `held` + `overdraft_limit`."""

    id: UUID
    owner_id: str | None
    currency: str
    kind: WalletKind = Field(
        description="Only a `customer`'s wallet is held to its `available`; the other kinds are not"
    )
    balance: Amount
    held: Amount
    available: Amount
    overdraft_limit: Amount
    status: WalletStatus
    version: int = Field(description="How many entries the wallet has")
    metadata: dict[str, Any]
    created_at: Timestamp
    updated_at: Timestamp
    deleted_at: Timestamp | None


class Failure(BaseModel):
    """Why a transaction FAILED."""

    code: FailureCode
    detail: str | None


class TransactionEntry(BaseModel):
    """One leg of a COMPLETED transaction."""

    wallet_id: UUID
    sequence: int
    amount: Amount = Field(description="Signed: negative where money leaves the wallet")
    balance_before: Amount
    balance_after: Amount


class Transaction(BaseModel):
    """A transaction, in whatever state it is."""

    id: UUID
    reference: str = Field(examples=["TXN-AGPBQ2JXKV2BDA3M3HGDHVYHLE"])
    idempotency_key: str
    submitter: str
    channel: Channel
    type: TransactionType
    source_wallet_id: UUID | None
    destination_wallet_id: UUID | None
    amount: Amount
    currency: str
    status: TransactionStatus
    failure: Failure | None
    description: str | None
    metadata: dict[str, Any]
    reverses: UUID | None
    reversed_by: UUID | None
    entries: list[TransactionEntry]
    created_at: Timestamp
    completed_at: Timestamp | None


class WalletEntry(BaseModel):
    """One line of a wallet's history."""

    wallet_id: UUID
    sequence: int
    transaction_id: UUID
    type: TransactionType
    amount: Amount = Field(description="Signed: negative where money leaves the wallet")
    balance_before: Amount
    balance_after: Amount
    description: str | None
    created_at: Timestamp


class Balance(BaseModel):
    """A wallet's balance at a moment."""

    balance: Amount
    at: Timestamp


class TransactionEvent(Transaction):
    """A transaction's change of state, at least once; duplicates share `event_id`."""

    event_id: UUID
    event_type: Literal[
        "transaction.completed",
        "transaction.failed",
        "transaction.reversed",
        "transaction.quarantined",
    ]
    occurred_at: Timestamp


_EMPTY: Final[Json] = {}

Embedded: TypeAlias = orjson.Fragment | Json
"""JSON text that orjson writes as it stands, or an empty object."""


@functools.lru_cache(maxsize=512)  # the transactions of a group share theirs, and so do a batch's
def format_moment(moment: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds, always six digits."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def render_wallet(row: Row) -> Json:
    """Return a wallet row as `Wallet` has it."""
    currency = row["currency"]
    available = row["balance"] - row["held"] + row["overdraft_limit"]
    deleted_at = row["deleted_at"]
    return {
        "id": str(row["id"]),
        "owner_id": row["owner_id"],
        "currency": currency,
        "kind": row["kind"],
        "balance": format_minor(row["balance"], currency),
        "held": format_minor(row["held"], currency),
        "available": format_minor(available, currency),
        "overdraft_limit": format_minor(row["overdraft_limit"], currency),
        "status": row["status"],
        "version": row["version"],
        "metadata": _metadata(row["metadata"]),
        "created_at": format_moment(row["created_at"]),
        "updated_at": format_moment(row["updated_at"]),
        "deleted_at": None if deleted_at is None else format_moment(deleted_at),
    }


# One call for all columns: looked up one by one they cost twice as much.
_COLUMNS: Final = itemgetter(
    "id",
    "idempotency_key",
    "submitter",
    "channel",
    "type",
    "source_wallet_id",
    "destination_wallet_id",
    "amount",
    "currency",
    "status",
    "failure_code",
    "description",
    "metadata",
    "reverses",
    "reversed_by",
    "source_sequence",
    "created_at",
    "completed_at",
)
_ENTRY_COLUMNS: Final = itemgetter(
    "amount",
    "currency",
    "source_sequence",
    "source_balance_after",
    "destination_sequence",
    "destination_balance_after",
)


def render_transaction(row: Row) -> Json:
    """Return a row of the database view `transaction_views` as `Transaction` has it."""
    (
        transaction_id, key, submitter, channel, kind, source_id, destination_id, minor, currency,
        status, code, description, metadata, reverses, reversed_by, source_sequence,
        created_at, completed_at,
    ) = _COLUMNS(row)  # fmt: skip
    source, destination, external = str(source_id), str(destination_id), _external(currency)
    amount = format_minor(minor, currency)
    return {
        "id": str(transaction_id),
        "reference": reference_of(transaction_id),
        "idempotency_key": key,
        "submitter": submitter,
        "channel": channel,
        "type": kind,
        # A deposit's source and a withdrawal's destination are outside: clients see none.
        "source_wallet_id": None if source_id is None or source == external else source,
        "destination_wallet_id": None
        if destination_id is None or destination == external
        else destination,
        "amount": amount,
        "currency": currency,
        "status": status,
        "failure": None if code is None else {"code": code, "detail": row["failure_detail"]},
        "description": description,
        "metadata": _metadata(metadata),
        "reverses": None if reverses is None else str(reverses),
        "reversed_by": None if reversed_by is None else str(reversed_by),
        "entries": [] if source_sequence is None else _entries(row, source, destination, amount),
        "created_at": format_moment(created_at),
        "completed_at": None if completed_at is None else format_moment(completed_at),
    }


def render_wallet_entry(row: Row) -> Json:
    """Return an entry row (joined with its transaction) as `WalletEntry` has it."""
    currency = row["currency"]
    return {
        "wallet_id": str(row["wallet_id"]),
        "sequence": row["sequence"],
        "transaction_id": str(row["transaction_id"]),
        "type": row["type"],
        "amount": format_minor(row["amount"], currency),
        "balance_before": format_minor(row["balance_after"] - row["amount"], currency),
        "balance_after": format_minor(row["balance_after"], currency),
        "description": row["description"],
        "created_at": format_moment(row["created_at"]),
    }


def render_event(transaction: Json, *, event_id: str, event_type: str, occurred_at: str) -> Json:
    """Return a rendered transaction as the event that tells of it."""
    return {
        "event_id": event_id,
        "event_type": event_type,
        "occurred_at": occurred_at,
        **transaction,
    }


def _entries(row: Row, source: str, destination: str, amount: str) -> list[Json]:
    """The two legs of a posted transaction, the debit first."""
    minor, currency, debit, source_after, credit, destination_after = _ENTRY_COLUMNS(row)
    return [
        {
            "wallet_id": source,
            "sequence": debit,
            "amount": f"-{amount}",
            "balance_before": format_minor(source_after + minor, currency),
            "balance_after": format_minor(source_after, currency),
        },
        {
            "wallet_id": destination,
            "sequence": credit,
            "amount": amount,
            "balance_before": format_minor(destination_after - minor, currency),
            "balance_after": format_minor(destination_after, currency),
        },
    ]


def _metadata(text: str | None) -> Embedded:
    """Return stored JSON to be embedded as it is.

    Read and written again it would cost time, lose digits, and fail where it is deeper than orjson
    goes: rows from before the bound on depth are shown like all others.
    """
    return orjson.Fragment(text) if text else _EMPTY


@functools.cache  # as many answers as currencies
def _external(currency: str) -> str:
    return str(external_wallet_id(currency))


class PostedRow(NamedTuple):
    """A row of `transaction_views` whose transaction is posted, and no part of a reversal."""

    id: UUID
    idempotency_key: str
    submitter: str
    channel: str
    type: str
    source_wallet_id: UUID
    destination_wallet_id: UUID
    amount: int
    currency: str
    status: str
    description: str | None
    metadata: str | None
    """Canonical JSON."""
    source_sequence: int
    source_balance_after: int
    destination_sequence: int
    destination_balance_after: int
    created_at: datetime
    completed_at: datetime
    request_id: str | None
    traceparent: str | None


# One call for all columns: looked up one by one they cost twice as much.
_POSTED_COLUMNS: Final = itemgetter(*PostedRow._fields)


def posted_row(row: Row) -> PostedRow | None:
    """Return a row that is posted, and no part of a reversal; None for any other."""
    is_plain = (
        row["source_sequence"] is not None
        and row["reverses"] is None
        and row["reversed_by"] is None
    )
    return PostedRow(*_POSTED_COLUMNS(row)) if is_plain else None


def event_body(row: Row, *, event_id: str, event_type: str, occurred_at: str) -> bytes:
    """Return the JSON of the event that tells of a row of `transaction_views`."""
    posted = posted_row(row)
    if posted is not None:
        return posted_event_body(
            posted, event_id=event_id, event_type=event_type, occurred_at=occurred_at
        )
    transaction = render_transaction(row)
    return orjson.dumps(
        render_event(transaction, event_id=event_id, event_type=event_type, occurred_at=occurred_at)
    )


def posted_event_body(row: PostedRow, *, event_id: str, event_type: str, occurred_at: str) -> bytes:
    """Return the same bytes for a posted row: names and values in `TransactionEvent`'s order."""
    (
        transaction_id, key, submitter, channel, kind, source_id, destination_id, minor, currency,
        status, description, metadata, debit, source_after, credit, destination_after, created_at,
        completed_at, _, _,
    ) = row  # fmt: skip
    source, destination, external = (
        f'"{source_id}"',
        f'"{destination_id}"',
        _quoted_external(currency),
    )
    amount = format_minor(minor, currency)
    return (
        f'{{"event_id":"{event_id}","event_type":"{event_type}","occurred_at":"{occurred_at}",'
        f'"id":"{transaction_id}","reference":"{reference_of(transaction_id)}",'
        f'"idempotency_key":{quoted(key)},"submitter":{quoted(submitter)},'
        f'"channel":"{channel}","type":"{kind}",'
        f'"source_wallet_id":{"null" if source == external else source},'
        f'"destination_wallet_id":{"null" if destination == external else destination},'
        f'"amount":"{amount}","currency":"{currency}","status":"{status}","failure":null,'
        f'"description":{"null" if description is None else quoted(description)},'
        f'"metadata":{metadata or "{}"},"reverses":null,"reversed_by":null,"entries":['
        f'{{"wallet_id":{source},"sequence":{debit},"amount":"-{amount}",'
        f'"balance_before":"{format_minor(source_after + minor, currency)}",'
        f'"balance_after":"{format_minor(source_after, currency)}"}},'
        f'{{"wallet_id":{destination},"sequence":{credit},"amount":"{amount}",'
        f'"balance_before":"{format_minor(destination_after - minor, currency)}",'
        f'"balance_after":"{format_minor(destination_after, currency)}"}}],'
        f'"created_at":"{format_moment(created_at)}",'
        f'"completed_at":"{format_moment(completed_at)}"}}'
    ).encode()


@functools.cache  # as many answers as currencies
def _quoted_external(currency: str) -> str:
    return f'"{external_wallet_id(currency)}"'
