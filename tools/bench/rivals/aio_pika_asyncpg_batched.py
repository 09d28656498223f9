"""A commit a batch with aio-pika and asyncpg: the plain rival, tuned as its best friends would.

Up to BATCH deliveries are gathered, for LINGER_S at most, and posted in one database transaction of
three statements that work on sets; one `multiple` ack follows the commit. Wallets are locked in the
order of their ids, and transfers decided one after the other, so that each is covered by what those
before it left. The books are those of posting.py; ids are taken in their usual spelling. Of several
CONSUMERS each is a process of its own; they share the queue, and nobody keeps its order then.

Run: `python -m tools.bench.rivals.aio_pika_asyncpg_batched`, with DATABASE_URL, AMQP_URL, QUEUE,
PREFETCH, BATCH and CONSUMERS in the environment.
"""

import asyncio
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import aio_pika
import asyncpg
import orjson
import uvloop
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelInvalidStateError

LINGER_S = 0.005

KNOWN = "SELECT idempotency_key FROM rival_transactions WHERE idempotency_key = ANY($1::text[])"
LOCK = """
    SELECT w.id::text, w.balance, w.version
    FROM unnest($1::uuid[]) AS asked (id) INNER JOIN rival_wallets AS w ON w.id = asked.id
    ORDER BY w.id FOR NO KEY UPDATE OF w
"""
# Transactions get their final status at once, and wallets are written once, however often they
# occur. All of a batch ends at one moment: that of its commit, as far as a statement can know it.
WRITE = """
    WITH moved AS (
        UPDATE rival_wallets AS w SET balance = new.balance, version = new.version
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS new (id, balance, version)
        WHERE w.id = new.id
    ), entered AS (
        INSERT INTO rival_entries (wallet_id, sequence, transaction_id, amount, balance_after)
        SELECT * FROM unnest($4::uuid[], $5::bigint[], $6::uuid[], $7::bigint[], $8::bigint[])
    )
    INSERT INTO rival_transactions (
        id, idempotency_key, source_wallet_id, destination_wallet_id, amount, status, completed_at
    )
    SELECT *, statement_timestamp()
    FROM unnest($9::uuid[], $10::text[], $11::uuid[], $12::uuid[], $13::bigint[], $14::text[])
"""


async def post_batch(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[Any]",
    transfers: Sequence[dict[str, Any]],
) -> None:
    """Leave out what is recorded already, lock, decide, write; the caller commits."""
    keys = [one["key"] for one in transfers]
    known = {row[0] for row in await connection.fetch(KNOWN, keys)}
    wanted = []
    for one in transfers:
        if one["key"] not in known:
            known.add(one["key"])
            wanted.append(one)
    if not wanted:
        return
    ids = {one["source"] for one in wanted} | {one["destination"] for one in wanted}
    wallets = {row[0]: [row[1], row[2]] for row in await connection.fetch(LOCK, ids)}
    entries: list[tuple[str, int, str, int, int]] = []
    recorded = []
    for one in wanted:
        source, destination, amount = one["source"], one["destination"], one["amount"]
        is_covered = wallets[source][0] >= amount
        for wallet_id, change in ((source, -amount), (destination, amount)) if is_covered else ():
            wallet = wallets[wallet_id]
            wallet[0] += change
            wallet[1] += 1
            entries.append((wallet_id, wallet[1], one["id"], change, wallet[0]))
        status = "COMPLETED" if is_covered else "FAILED"
        recorded.append((one["id"], one["key"], source, destination, amount, status))
    moved = [(wallet_id, *state) for wallet_id, state in wallets.items()]
    columns = (*_columns(moved, 3), *_columns(entries, 5), *_columns(recorded, 6))
    await connection.execute(WRITE, *columns)


def _columns(rows: Iterable[Sequence[Any]], width: int) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) or [()] * width


async def _gather(arrived: "asyncio.Queue[AbstractIncomingMessage]", most: int) -> list[Any]:
    batch = [await arrived.get()]
    until = asyncio.get_running_loop().time() + LINGER_S
    while len(batch) < most:
        try:
            batch.append(arrived.get_nowait())
        except asyncio.QueueEmpty:
            try:
                async with asyncio.timeout_at(until):
                    batch.append(await arrived.get())
            except TimeoutError:
                break
    return batch


async def settle(pool: "asyncpg.Pool[asyncpg.Record]", batch: Sequence[Any]) -> None:
    """Post and ack; what no commit takes is found by halves, and rejected by itself."""
    try:
        transfers = [orjson.loads(message.body) for message in batch]
        async with pool.acquire() as connection, connection.transaction():
            await post_batch(connection, transfers)
    except asyncpg.UniqueViolationError:
        # Another consumer has just recorded what was delivered to both: it is known now.
        await settle(pool, batch)
        return
    except (KeyError, TypeError, ValueError):
        if len(batch) == 1:
            await batch[0].reject()
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            await settle(pool, half)
        return
    # Of a channel that is lost all comes again, and is known then.
    with suppress(ChannelInvalidStateError):
        await batch[-1].ack(multiple=True)


async def main() -> None:
    """Consume until killed."""
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=1)
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=int(os.environ["PREFETCH"]))
    queue = await channel.get_queue(os.environ["QUEUE"])
    arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await queue.consume(arrived.put)
    while True:
        await settle(pool, await _gather(arrived, int(os.environ["BATCH"])))


if __name__ == "__main__":
    for _ in range(int(os.environ["CONSUMERS"]) - 1):
        if os.fork() == 0:
            break
    uvloop.run(main())
