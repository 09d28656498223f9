"""Posting again: transactions that became PENDING again, or are to be announced again.

The sweep may have passed their ids long ago, so the reconciler's retry queue makes sure of them,
should the announcement that follows the commit fail.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries


async def make_sure_of_posting(
    connection: Connection, transaction_ids: Sequence[UUID], *, after_s: float
) -> list[asyncpg.Record]:
    """Return what of these is to be announced, with the other members of their atomic batches.

    Rows have the columns of `RecordedTransaction`. The reconciler announces them, too, unless they
    are posted `after_s` seconds from now.
    """
    sql = load_queries("runtime.postgres")
    rows: list[asyncpg.Record] = await connection.fetch(sql["read_to_announce"], transaction_ids)
    await connection.execute(sql["insert_stale"], [row["id"] for row in rows], after_s)
    return rows
