"""What clients read: wallets, transactions and entries as JSON, the same over every door.

The models give the documents their schemas. The `render_…` functions build the same shape from
database rows directly: they run for every event and every read, where a model a row costs too much.
"""

import functools
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Protocol
from uuid import UUID

import orjson
from pydantic import AwareDatetime, BaseModel, Field

from contracts.identifiers import external_wallet_id, reference_of
from contracts.money import format_minor
from contracts.transactions import Channel, FailureCode, TransactionStatus, TransactionType
from contracts.wallets import WalletStatus


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
    balance: Amount
    held: Amount
    available: Amount
    overdraft_limit: Amount
    status: WalletStatus
    version: int = Field(description="How many entries the wallet has")
    metadata: dict[str, Any]
    created_at: Timestamp
    updated_at: Timestamp


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


@functools.lru_cache(maxsize=512)  # the transactions of a group share theirs, and so do a batch's
def format_moment(moment: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds, always six digits."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def render_wallet(row: Row) -> Json:
    """Return a wallet row as `Wallet` has it."""
    currency = row["currency"]
    available = row["balance"] - row["held"] + row["overdraft_limit"]
    return {
        "id": str(row["id"]),
        "owner_id": row["owner_id"],
        "currency": currency,
        "balance": format_minor(row["balance"], currency),
        "held": format_minor(row["held"], currency),
        "available": format_minor(available, currency),
        "overdraft_limit": format_minor(row["overdraft_limit"], currency),
        "status": row["status"],
        "version": row["version"],
        "metadata": _metadata(row["metadata"]),
        "created_at": format_moment(row["created_at"]),
        "updated_at": format_moment(row["updated_at"]),
    }


def render_transaction(row: Row) -> Json:
    """Return a row of the database view `transaction_views` as `Transaction` has it."""
    currency = row["currency"]
    external = external_wallet_id(currency)
    completed_at = row["completed_at"]
    return {
        "id": str(row["id"]),
        "reference": reference_of(row["id"]),
        "idempotency_key": row["idempotency_key"],
        "submitter": row["submitter"],
        "channel": row["channel"],
        "type": row["type"],
        "source_wallet_id": _own_wallet(row["source_wallet_id"], external),
        "destination_wallet_id": _own_wallet(row["destination_wallet_id"], external),
        "amount": format_minor(row["amount"], currency),
        "currency": currency,
        "status": row["status"],
        "failure": _failure(row),
        "description": row["description"],
        "metadata": _metadata(row["metadata"]),
        "reverses": _text(row["reverses"]),
        "reversed_by": _text(row["reversed_by"]),
        "entries": _entries(row, currency),
        "created_at": format_moment(row["created_at"]),
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


def _entries(row: Row, currency: str) -> list[Json]:
    """The two legs, the debit first; none before the transaction is posted."""
    if row["source_sequence"] is None:
        return []
    amount, source, destination = (
        row["amount"],
        row["source_balance_after"],
        row["destination_balance_after"],
    )
    return [
        {
            "wallet_id": str(row["source_wallet_id"]),
            "sequence": row["source_sequence"],
            "amount": format_minor(-amount, currency),
            "balance_before": format_minor(source + amount, currency),
            "balance_after": format_minor(source, currency),
        },
        {
            "wallet_id": str(row["destination_wallet_id"]),
            "sequence": row["destination_sequence"],
            "amount": format_minor(amount, currency),
            "balance_before": format_minor(destination - amount, currency),
            "balance_after": format_minor(destination, currency),
        },
    ]


def _failure(row: Row) -> Json | None:
    code = row["failure_code"]
    return None if code is None else {"code": code, "detail": row["failure_detail"]}


def _metadata(text: str | None) -> Json:
    return orjson.loads(text) if text else _EMPTY


def _own_wallet(wallet_id: UUID | None, external: UUID) -> str | None:
    """A deposit's source and a withdrawal's destination are outside: clients see none."""
    return None if wallet_id == external else _text(wallet_id)


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
