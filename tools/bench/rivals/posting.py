"""The work of one message, for the rivals that use asyncpg: the same steps as everyone's."""

from typing import Any
from uuid import UUID

import asyncpg

RECORD = """
    INSERT INTO rival_transactions (
        id, idempotency_key, source_wallet_id, destination_wallet_id, amount, status
    ) VALUES ($1, $2, $3, $4, $5, 'PENDING')
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING id
"""
LOCK = """
    SELECT id, balance, version FROM rival_wallets
    WHERE id = $1 OR id = $2 ORDER BY id FOR UPDATE
"""
MOVE = """
    UPDATE rival_wallets SET balance = balance + $2, version = version + 1 WHERE id = $1
    RETURNING balance, version
"""
ENTER = """
    INSERT INTO rival_entries (wallet_id, sequence, transaction_id, amount, balance_after)
    VALUES ($1, $2, $3, $4, $5)
"""
FINISH = """
    UPDATE rival_transactions SET status = $2, completed_at = clock_timestamp() WHERE id = $1
"""


async def post_with_asyncpg(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", transfer: dict[str, Any]
) -> None:
    """Record, lock in id order, check, move, enter, finish; the caller commits."""
    transaction_id = UUID(transfer["id"])
    source, destination = UUID(transfer["source"]), UUID(transfer["destination"])
    amount = transfer["amount"]
    is_new = await connection.fetchval(
        RECORD, transaction_id, transfer["key"], source, destination, amount
    )
    if is_new is None:
        return
    wallets = {row["id"]: row for row in await connection.fetch(LOCK, source, destination)}
    if wallets[source]["balance"] < amount:
        await connection.execute(FINISH, transaction_id, "FAILED")
        return
    for wallet_id, change in ((source, -amount), (destination, amount)):
        [moved] = await connection.fetch(MOVE, wallet_id, change)
        await connection.execute(
            ENTER, wallet_id, moved["version"], transaction_id, change, moved["balance"]
        )
    await connection.execute(FINISH, transaction_id, "COMPLETED")
