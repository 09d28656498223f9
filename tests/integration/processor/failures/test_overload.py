"""A processor that is behind reads the next batch while it writes one; nothing overtakes."""

import asyncio

from runtime.postgres.pool import Connection
from runtime.service.fault_points import FaultPoint
from tests.integration.processor.failures.conftest import Site
from tests.integration.processor.failures.workshop import (
    Signalling,
    all_completed,
    announce,
    assert_posted_once,
    processing,
    recorded_transfers,
)

_COUNT = 400


async def test_many_full_batches_are_posted_in_the_order_of_their_messages(
    database: Connection, site: Site
) -> None:
    transfers = await recorded_transfers(database, _COUNT)
    for one in transfers.ids:
        await announce(site.publisher, [one])
    async with processing(site.database_url, site.broker_url):
        await all_completed(database, transfers.ids)

    await assert_posted_once(database, transfers)


async def test_a_processor_killed_while_it_reads_ahead_leaves_its_order_to_the_next(
    database: Connection, site: Site
) -> None:
    transfers = await recorded_transfers(database, _COUNT)
    for one in transfers.ids:
        await announce(site.publisher, [one])
    points = Signalling(FaultPoint.PROCESSOR_COMMITTED)
    async with processing(site.database_url, site.broker_url, fault_points=points, is_killed=True):
        async with asyncio.timeout(10):
            await points.reached.wait()
    async with processing(site.database_url, site.broker_url):
        await all_completed(database, transfers.ids)

    await assert_posted_once(database, transfers)
