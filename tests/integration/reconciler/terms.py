"""Transactions with terms, recorded as the doors record them, and holds as posting leaves them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import orjson

from runtime.postgres.pool import Connection

_RECORD = """
SELECT id FROM record_transactions_with_terms(
    'http', $1::text[], $2::text[], $3::bytea[], $4::text[], $5::uuid[], $6::uuid[], $7::bigint[],
    $8::text[], $9::text[], $9::text[], $9::text[], $9::text[], $10::text[]
)
ORDER BY request
"""
_OPEN_HOLDS = """
WITH posted AS (
    INSERT INTO transactions (
        id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id, amount,
        currency, status, has_terms, created_at, completed_at
    )
    SELECT
        uuid_v7(clock_us(), n), 'test', gen_random_uuid()::text, '\\x00', 'http', 'hold', $1, $2,
        'USD', 'COMPLETED', true, clock_timestamp(), clock_timestamp()
    FROM generate_series(1, $3::integer) AS n
    RETURNING id, source_wallet_id, amount
),

terms AS (
    INSERT INTO transaction_terms (transaction_id) SELECT id FROM posted
),

raised AS (
    UPDATE wallets SET held = held + (SELECT sum(amount) FROM posted) WHERE id = $1
)

INSERT INTO holds (
    transaction_id, wallet_id, currency, amount, remaining, expires_at, updated_at
)
SELECT
    id, source_wallet_id, 'USD', amount, amount,
    clock_timestamp() + make_interval(secs => $4::double precision), clock_timestamp()
FROM posted
ORDER BY id
RETURNING transaction_id
"""


async def record_with_terms(
    connection: Connection,
    terms: Sequence[dict[str, Any]],
    *,
    kind: str = "transfer",
    wallets: Sequence[tuple[UUID | None, UUID | None]] | None = None,
) -> list[UUID]:
    """Record transactions with these terms and return their ids, in order.

    `wallets`: the source and the destination of each; unknown ones where none are given.
    """
    named = wallets or [(uuid4(), uuid4()) for _ in terms]
    is_known = [source is not None for source, _ in named]
    rows = await connection.fetch(
        _RECORD,
        ["test"] * len(terms),
        [uuid4().hex for _ in terms],
        [b"\x00"] * len(terms),
        [kind] * len(terms),
        [source for source, _ in named],
        [destination for _, destination in named],
        [100 if one else None for one in is_known],
        ["USD" if one else None for one in is_known],
        [None] * len(terms),
        [orjson.dumps(one).decode() for one in terms],
    )
    return [row["id"] for row in rows]


def at(moment: datetime) -> dict[str, str]:
    """Return the terms of what is to be executed then."""
    return {"execute_at": moment.isoformat()}


async def open_holds(
    connection: Connection, wallet_id: UUID, *, amount: int, expires_in_s: float, count: int = 1
) -> list[UUID]:
    """Write posted holds of a wallet, and raise what is held of it; return their ids in order."""
    rows = await connection.fetch(_OPEN_HOLDS, wallet_id, amount, count, expires_in_s)
    return sorted(row["transaction_id"] for row in rows)
