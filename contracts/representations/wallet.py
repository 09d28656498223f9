"""Wallets, their entries and their holds as JSON; pure.

The models give the documents their schemas; the `render_…` functions build the same from rows.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel, Field

from contracts.money import format_minor
from contracts.representations.transaction import (
    Amount,
    Count,
    Json,
    Open,
    Row,
    Timestamp,
    format_moment,
    stored_json,
)
from ledger.words import HoldStatus, TransactionType, WalletKind, WalletStatus


class Wallet(BaseModel):
    """A wallet: `available` = `balance` - `held` + `overdraft_limit`."""

    id: UUID
    owner_id: str | None
    currency: str
    kind: Open[WalletKind] = Field(
        description="Only a `customer`'s wallet is held to its `available`; the other kinds are not"
    )
    balance: Amount
    held: Amount
    available: Amount
    overdraft_limit: Amount
    status: Open[WalletStatus]
    version: Count = Field(description="How many entries the wallet has")
    metadata: dict[str, Any]
    created_at: Timestamp
    updated_at: Timestamp
    deleted_at: Timestamp | None


class WalletHold(BaseModel):
    """A hold of a wallet, as it stands now."""

    transaction_id: UUID
    wallet_id: UUID
    destination_wallet_id: UUID | None
    amount: Amount
    remaining: Amount
    captured: Amount
    currency: str
    status: Open[HoldStatus]
    expires_at: Timestamp
    created_at: Timestamp


class WalletEntry(BaseModel):
    """One line of a wallet's history."""

    wallet_id: UUID
    sequence: Count
    transaction_id: UUID
    type: Open[TransactionType]
    amount: Amount = Field(description="Signed: negative where money leaves the wallet")
    balance_before: Amount
    balance_after: Amount
    description: str | None
    created_at: Timestamp


class Balance(BaseModel):
    """A wallet's balance at a moment."""

    balance: Amount
    at: Timestamp


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
        "metadata": stored_json(row["metadata"]),
        "created_at": format_moment(row["created_at"]),
        "updated_at": format_moment(row["updated_at"]),
        "deleted_at": None if deleted_at is None else format_moment(deleted_at),
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


def entry_page(rows: Iterable[Iterable[Any]], next_cursor: str | None) -> bytes:
    """Return a page of entries as JSON; the columns of each stand behind a first one.

    The same bytes as `render_wallet_entry` would lead to: histories are long, so this is written
    out.
    """
    items = []
    for (
        _, wallet_id, sequence, transaction_id, amount, balance, created_at, kind, description,
        currency,
    ) in rows:  # fmt: skip
        told = "null" if description is None else orjson.dumps(description).decode()
        items.append(
            f'{{"wallet_id":"{wallet_id}","sequence":{sequence},"transaction_id":"{transaction_id}"'
            f',"type":"{kind}","amount":"{format_minor(amount, currency)}"'
            f',"balance_before":"{format_minor(balance - amount, currency)}"'
            f',"balance_after":"{format_minor(balance, currency)}"'
            f',"description":{told},"created_at":"{format_moment(created_at)}"}}'
        )
    following = orjson.dumps(next_cursor).decode()
    return f'{{"items":[{",".join(items)}],"next_cursor":{following}}}'.encode()


def render_wallet_hold(row: Row) -> Json:
    """Return a row of a hold (joined with its transaction) as `WalletHold` has it."""
    currency, destination = row["currency"], row["destination_wallet_id"]
    return {
        "transaction_id": str(row["transaction_id"]),
        "wallet_id": str(row["wallet_id"]),
        "destination_wallet_id": None if destination is None else str(destination),
        "amount": format_minor(row["amount"], currency),
        "remaining": format_minor(row["remaining"], currency),
        "captured": format_minor(row["captured"], currency),
        "currency": currency,
        "status": row["status"],
        "expires_at": format_moment(row["expires_at"]),
        "created_at": format_moment(row["created_at"]),
    }
