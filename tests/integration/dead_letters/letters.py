"""Dead letters as the collector would have stored them, and transactions that they belong to."""

from typing import Any
from uuid import UUID, uuid4

import orjson

from contracts.messages import REQUESTED_TYPE
from contracts.record import Submission, recording_arguments
from contracts.requests.transaction import command_of
from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries

_INSERT = """
INSERT INTO dead_letters (
    id, message_id, queue, reason, detail, body, headers, submitter, transaction_id, message_type,
    content_type
)
VALUES (
    uuid_v7(clock_us()), $1, 'ackledger.transactions.0', $2, $7, $3, '{}', $4, $5, $6,
    'application/json'
)
RETURNING id
"""

_QUARANTINE = """
WITH quarantined AS (
    UPDATE transactions SET status = 'QUARANTINED' WHERE id = $1 RETURNING id
)
INSERT INTO exceptional_transactions SELECT 'QUARANTINED', id FROM quarantined
"""


def deposit(key: str = "key-1", *, amount: str = "10.00") -> dict[str, Any]:
    """Return a valid deposit, as an upstream message holds it."""
    return {
        "idempotency_key": key,
        "type": "deposit",
        "destination_wallet_id": "11111111-1111-4111-8111-111111111111",
        "amount": amount,
        "currency": "EUR",
    }


def requested(*transactions: dict[str, Any]) -> bytes:
    """Return the body of a message with one or many transactions."""
    if len(transactions) == 1:
        return orjson.dumps({"version": 1, **transactions[0]})
    return orjson.dumps({"version": 1, "transactions": transactions})


async def store(
    database: Connection,
    body: bytes,
    *,
    reason: str = "delivery_limit",
    submitter: str | None = "shop",
    transaction_id: UUID | None = None,
    message_type: str | None = REQUESTED_TYPE,
    detail: str = "why",
) -> UUID:
    """Store a dead letter and return its id."""
    dead_letter_id = await database.fetchval(
        _INSERT, uuid4().hex, reason, body, submitter, transaction_id, message_type, detail
    )
    assert isinstance(dead_letter_id, UUID)
    return dead_letter_id


async def quarantine(database: Connection, transaction_id: UUID) -> None:
    """Set a transaction aside, as the processor does."""
    await database.execute(_QUARANTINE, transaction_id)


async def quarantined_deposit(database: Connection, wallet: str) -> tuple[UUID, str]:
    """Return the dead letter of a deposit of 1.00 USD that was set aside, and the deposit's id."""
    request = {**deposit(uuid4().hex, amount="1.00"), "currency": "USD"}
    # Recorded behind everybody's back: no message asks for its posting.
    command = command_of({**request, "destination_wallet_id": wallet})
    recording = load_queries("dead_letters")["record_requested"]
    submission = Submission(submitter="shop", command=command)
    [row] = await database.fetch(recording, *recording_arguments([submission]))
    await quarantine(database, row["id"])
    dead_letter = await store(database, b"{}", reason="quarantined", transaction_id=row["id"])
    return dead_letter, str(row["id"])


async def status_of(database: Connection, transaction_id: UUID) -> str:
    """Return a transaction's status."""
    status = await database.fetchval(
        "SELECT status::text FROM transactions WHERE id = $1", transaction_id
    )
    return str(status)


async def audited(database: Connection, dead_letter_id: UUID) -> list[tuple[str, str]]:
    """Return who did what to a dead letter, in order."""
    rows = await database.fetch(
        "SELECT actor, action FROM audit_log WHERE subject = $1 ORDER BY id",
        f"dead_letter:{dead_letter_id}",
    )
    return [(row["actor"], row["action"]) for row in rows]
