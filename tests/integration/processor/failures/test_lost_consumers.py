"""A consumer that is lost, by whatever means, is there again."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from cli.clients.management import Management
from processor.intake import partition_consumer
from runtime.amqp.topology import declare_topology, look_at_queue
from runtime.postgres.pool import Connection
from tests.integration.processor.failures.conftest import Site
from tests.integration.processor.failures.workshop import (
    PREFETCH,
    QUEUE,
    all_completed,
    announce,
    assert_posted_once,
    metric,
    post_one,
    processing,
    recorded_transfers,
)
from tests.integration.reconciler.serving import running
from tests.support import eventually
from tools.stack import Stack

pytestmark = pytest.mark.long

_REBUILT = "ackledger_processor_consumers_rebuilt_total"


async def _is(look: Callable[[], bool], *, what: str) -> None:
    async def found() -> bool:
        return look()

    await eventually(found, what=what)


def _management(stack: Stack) -> Management:
    assert stack.rabbitmq.management_url is not None
    return Management(stack.rabbitmq.management_url)


async def test_a_consumer_that_the_broker_cancels_with_its_queue_consumes_the_next_one(
    database: Connection, site: Site
) -> None:
    transfers = await recorded_transfers(database, 2)
    cancelled = metric(_REBUILT, reason="cancelled")
    async with processing(site.database_url, site.broker_url) as workshop:
        await post_one(database, site.publisher, transfers.ids[0])
        await site.channel.queue_delete(QUEUE)
        await _is(lambda: not workshop.consumer.is_up, what="a consumer that noticed")
        await declare_topology(site.broker_url, partitions=1)
        await announce(site.publisher, transfers.ids[1:])
        await all_completed(database, transfers.ids)

    assert metric(_REBUILT, reason="cancelled") == cancelled + 1
    await assert_posted_once(database, transfers)


async def test_a_queue_that_is_back_before_anyone_noticed_is_consumed_again(
    database: Connection, site: Site
) -> None:
    """RabbitMQ may carry the consumer over to the new queue, and then hand it nothing."""
    transfers = await recorded_transfers(database, 2)
    async with processing(site.database_url, site.broker_url, quiet_max_s=1.0):
        await announce(site.publisher, transfers.ids[:1])
        await all_completed(database, transfers.ids[:1])
        await site.channel.queue_delete(QUEUE)
        await declare_topology(site.broker_url, partitions=1)
        await announce(site.publisher, transfers.ids[1:])
        await all_completed(database, transfers.ids, within_s=30.0)

    await assert_posted_once(database, transfers)


async def test_a_connection_closed_by_the_broker_is_made_again(
    database: Connection, site: Site, stack: Stack
) -> None:
    transfers = await recorded_transfers(database, 2)
    management, vhost = _management(stack), quote(urlsplit(site.broker_url).path[1:], safe="")

    async def consuming() -> list[dict[str, Any]]:
        found = await asyncio.to_thread(management.call, "GET", f"/api/consumers/{vhost}")
        return [one["channel_details"] for one in found if one["channel_details"]]

    async with processing(site.database_url, site.broker_url):
        await post_one(database, site.publisher, transfers.ids[0])
        [details] = await eventually(consuming, what="the consumer in the broker's list")
        name = quote(details["connection_name"], safe="")
        await asyncio.to_thread(management.call, "DELETE", f"/api/connections/{name}")
        await announce(site.publisher, transfers.ids[1:])
        await all_completed(database, transfers.ids)

    await assert_posted_once(database, transfers)


async def test_a_cut_connection_is_made_again(database: Connection, site: Site) -> None:
    transfers = await recorded_transfers(database, 2)
    async with processing(site.database_url, site.broker_line.url) as workshop:
        await post_one(database, site.publisher, transfers.ids[0])
        site.broker_line.unplug()
        await _is(lambda: not workshop.consumer.is_up, what="a consumer that noticed")
        await announce(site.publisher, transfers.ids[1:])
        site.broker_line.plug()
        await all_completed(database, transfers.ids)

    await assert_posted_once(database, transfers)


async def test_an_idle_standby_is_let_be_for_a_minute_after_a_rebuild(site: Site) -> None:
    """Its queue is busy with another consumer: it has nothing, and nothing is wrong."""
    rebuilt = {"reason": "forgotten"}
    before = metric(_REBUILT, **rebuilt)
    active = partition_consumer(site.broker_url, QUEUE, prefetch=PREFETCH)
    standby = partition_consumer(site.broker_url, QUEUE, prefetch=PREFETCH)
    async with running(active):
        await _is(lambda: active.is_up, what="the active consumer")
        async with running(standby):
            await _is(lambda: standby.is_up, what="the standby")
            for _ in range(2 * PREFETCH):
                await announce(site.publisher, [])

            async def looked() -> bool:
                return metric(_REBUILT, **rebuilt) > before

            await eventually(looked, what="the watchdog's suspicion")
            await _is(lambda: standby.is_up, what="the standby again")
            state = await look_at_queue(site.channel, QUEUE)
            taken = await active.take(PREFETCH)

    assert state.waiting == PREFETCH
    assert state.consumers == 1
    assert taken
    assert metric(_REBUILT, **rebuilt) == before + 1
