"""After a long outage: no transaction is announced twice at once, and never more than a bound."""

import asyncio
from contextlib import AsyncExitStack
from uuid import UUID

from reconciler.retry_queue import QueueDepth, Sweep
from reconciler.schedule import reconciler_leadership
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Connection, Pool
from tests.integration.reconciler.parts import QUEUES, make_reconciler, make_retry_queue
from tests.integration.reconciler.pending import record_pending, taken_ids
from tests.integration.reconciler.serving import running
from tests.support import eventually

BACKLOG = 3000


async def _taken(channel: Channel) -> list[UUID]:
    return [one for queue in QUEUES for group in await taken_ids(channel, queue) for one in group]


async def test_two_reconcilers_and_passes_by_hand_announce_an_old_backlog_once(
    pool: Pool,
    publisher: Publisher,
    depth: QueueDepth,
    database_url: str,
    channel: Channel,
) -> None:
    async with pool.acquire() as connection:
        ids = await record_pending(connection, BACKLOG)
    reconcilers = [
        make_reconciler(
            pool,
            make_retry_queue(pool, publisher, depth, in_flight_max=BACKLOG + 1),
            reconciler_leadership(database_url),
            stale_after_s=0.05,
            interval_s=0.05,
            integrity_interval_s=60,
        )
        for _ in range(2)
    ]

    async def all_announced() -> bool:
        announced: int = await pool.fetchval(
            "SELECT count(*) FROM stale_transactions WHERE attempts = 1"
        )
        return announced == BACKLOG

    async with AsyncExitStack() as stack:
        for reconciler in reconcilers:
            await stack.enter_async_context(running(reconciler))
        by_hand = [await reconcilers[1].run_once() for _ in range(5)]
        await eventually(all_announced, what="the whole backlog is announced")
        for reconciler in reconcilers:
            await reconciler.drain()

    taken = await _taken(channel)
    assert sorted(taken) == ids
    assert sum(one.republished for one in by_hand) <= BACKLOG


async def test_passes_at_once_share_the_room_in_flight(
    pool: Pool, publisher: Publisher, depth: QueueDepth, database: Connection, channel: Channel
) -> None:
    await record_pending(database, BACKLOG)
    await Sweep(pool).run_once(older_than_s=0)
    retry_queues = [make_retry_queue(pool, publisher, depth, in_flight_max=100) for _ in range(4)]

    counts = await asyncio.gather(*(retry_queue.run_once() for retry_queue in retry_queues))

    assert sum(one.republished for one in counts) == 100
    assert len(await _taken(channel)) == 100
