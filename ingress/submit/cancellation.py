"""Cancellations: a SCHEDULED transaction that is not to be executed after all becomes FAILED."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from contracts.problems import ContractError, ProblemCode
from ledger.words import FailureCode, TransactionStatus
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries

_DETAILS: Final = {
    FailureCode.CANCELLED: "it was cancelled before it was due",
    FailureCode.BATCH_FAILED: "another transaction of the atomic batch was cancelled",
}


class Cancellations:
    """Cancels transactions, each under an idempotency key of the client's."""

    def __init__(self, pool: Pool) -> None:
        """`pool` serves changes that may wait for a lock, and no submissions."""
        self._pool = pool
        self._sql = load_queries("ingress")

    async def cancel(self, transaction_id: UUID, *, submitter: str, key: str) -> bool:
        """Cancel a transaction, and with it the other members of its atomic batch.

        Returns False where this key had cancelled it before. Raises ContractError for a key of
        another cancellation, for a transaction that there is not, and for one not SCHEDULED; then
        the key stays unused.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if not await self._claim(connection, transaction_id, submitter=submitter, key=key):
                return False
            rows = await connection.fetch(self._sql["lock_with_batch"], transaction_id)
            _check(transaction_id, rows)
            ids = [row["id"] for row in rows]
            codes = [
                FailureCode.CANCELLED if one == transaction_id else FailureCode.BATCH_FAILED
                for one in ids
            ]
            details = [_DETAILS[code] for code in codes]
            await connection.execute(self._sql["end_cancelled"], ids, codes, details)
            await connection.execute(self._sql["delete_schedule"], ids)
        return True

    async def _claim(
        self, connection: Connection, transaction_id: UUID, *, submitter: str, key: str
    ) -> bool:
        """Use a key for a cancellation; False where it was used for the same one."""
        claimed = await connection.fetchval(
            self._sql["insert_cancellation"], submitter, key, transaction_id
        )
        if claimed is not None:
            return True
        cancelled = await connection.fetchval(self._sql["read_cancellation"], submitter, key)
        if cancelled != transaction_id:
            raise ContractError(
                ProblemCode.IDEMPOTENCY_KEY_REUSED,
                f"the key '{key}' stands for the cancellation of another transaction",
            )
        return False


def _check(transaction_id: UUID, rows: Sequence[asyncpg.Record]) -> None:
    """Raise ContractError unless the transaction, and all that ends with it, is SCHEDULED."""
    if not rows:
        raise ContractError(
            ProblemCode.TRANSACTION_NOT_FOUND, f"there is no transaction {transaction_id}"
        )
    for row in rows:
        if row["status"] != TransactionStatus.SCHEDULED:
            raise ContractError(
                ProblemCode.NOT_CANCELLABLE, f"the transaction {row['id']} is {row['status']}"
            )
