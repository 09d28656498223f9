"""A processor that stops hands over in order: a standby takes nothing from behind its batch."""

import asyncio
from contextlib import suppress

from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher
from runtime.amqp.topology import check_queue
from runtime.postgres.pool import Connection
from tests.integration.processor.books import add_wallets, record, transfer_command
from tests.integration.processor.failures.workshop import (
    PREFETCH,
    QUEUE,
    all_completed,
    announce,
    completed,
    nothing_unsettled,
    processing,
    recorded_transfers,
)
from tests.support import eventually


async def test_a_standby_overtakes_nothing_while_a_batch_is_in_hand(
    database: Connection, database_url: str, broker_url: str, publisher: Publisher, channel: Channel
) -> None:
    locked, other = await add_wallets(database, 2, balance=100)
    [first] = await record(database, [transfer_command("locked", locked, other, 1)])
    transfers = await recorded_transfers(database, 2 * PREFETCH)
    async with processing(database_url, broker_url, lock_timeout_s=10.0) as stopping:
        holding = database.transaction()
        await holding.start()
        await database.execute("SELECT * FROM wallets WHERE id = $1 FOR UPDATE", locked)
        for one in (first, *transfers.ids):
            await announce(publisher, [one])

        async def is_full() -> bool:
            left = await check_queue(channel, QUEUE)
            return left == 1 + len(transfers.ids) - PREFETCH

        await eventually(is_full, what="a full prefetch behind the batch in hand")
        async with processing(database_url, broker_url):
            draining = asyncio.ensure_future(stopping.partition.drain())

            async def is_overtaken() -> bool:
                return await completed(database, transfers.ids) > 0

            with suppress(AssertionError):
                await eventually(is_overtaken, what="a breach of order", within_s=1.0)
            overtaken = await completed(database, transfers.ids)
            await holding.rollback()
            await draining
    async with processing(database_url, broker_url):
        await all_completed(database, [first, *transfers.ids])
    await nothing_unsettled(channel)
    assert overtaken == 0
    posted = await database.fetch(
        "SELECT transaction_id FROM entries WHERE wallet_id = $1 ORDER BY sequence",
        transfers.source,
    )
    assert [row["transaction_id"] for row in posted] == transfers.ids
