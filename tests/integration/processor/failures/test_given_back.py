"""What is given back comes again: nothing of it is acked, whatever was committed or under way."""

import asyncio
from collections.abc import Callable
from uuid import UUID, uuid4

from contracts.topology import DEAD_LETTERS
from processor.intake import partition_consumer
from runtime.amqp.connection import Channel
from runtime.amqp.topology import check_queue, declare_topology
from runtime.postgres.pool import Connection, connect
from runtime.service.fault_points import FaultPoint, FaultPoints
from tests.integration.processor.failures.conftest import Site
from tests.integration.processor.failures.workshop import (
    BATCH_SIZE,
    QUEUE,
    Workshop,
    all_completed,
    announce,
    assert_posted_once,
    circuit_open,
    completed,
    metric,
    nothing_unsettled,
    post_one,
    processing,
    recorded_transfers,
    request,
)
from tests.integration.reconciler.serving import running
from tests.support import eventually

_GIVEN_BACK = "ackledger_processor_given_back_total"


class _AtCommit(FaultPoints):
    """Does something behind one commit, counted from one, and tells of it."""

    def __init__(self, number: int, strike: Callable[[], None]) -> None:
        self._left = number
        self._strike = strike
        self.struck = asyncio.Event()

    async def reach(self, point: FaultPoint) -> None:
        """Count commits."""
        if point is FaultPoint.PROCESSOR_COMMITTED:
            self._left -= 1
            if self._left == 0:
                self._strike()
                self.struck.set()


async def _circuit_closed(workshop: Workshop) -> None:
    async def look() -> bool:
        return not workshop.circuit.is_open

    await eventually(look, what="a closed circuit")


async def _lock(database_url: str, wallet: UUID) -> Connection:
    """Hold a wallet's row until the connection is closed."""
    holder = await connect(database_url, name="test")
    await holder.execute("BEGIN")
    await holder.execute("SELECT * FROM wallets WHERE id = $1 FOR UPDATE", wallet)
    return holder


async def _dead_letters(channel: Channel, count: int) -> None:
    async def look() -> bool:
        return await check_queue(channel, DEAD_LETTERS) == count

    await eventually(look, what=f"{count} dead letters")


async def test_a_batch_whose_outage_is_over_before_its_turn_is_not_acked_with_the_next(
    database: Connection, site: Site, shop: Channel
) -> None:
    """A backlog, a slow letter, and a short outage: the batch behind the letter was lost then."""
    first = await recorded_transfers(database, 1)
    blocked = await recorded_transfers(database, 1)
    stuck = await recorded_transfers(database, 1)
    transfers = await recorded_transfers(database, 5 * BATCH_SIZE)
    wallets, key = [first.source, first.destination], uuid4().hex
    async with processing(site.database_url, site.broker_url):
        await request(shop, wallets, reply_to="", key=key)
        await post_one(database, site.publisher, first.ids[0])

    def strike() -> None:
        site.broker_line.fall_silent()
        site.database_line.unplug()

    points = _AtCommit(2, strike)
    holder = await _lock(site.database_url, blocked.source)
    # The batch behind is sent ahead: without this it might be committed before the outage.
    keeper = await _lock(site.database_url, stuck.source)
    async with processing(
        site.database_line.url,
        site.broker_url,
        publisher_url=site.broker_line.url,
        fault_points=points,
        prefetch=8 * BATCH_SIZE,
    ) as workshop:
        await announce(site.publisher, blocked.ids)
        await eventually(lambda: _is_held(workshop), what="a batch that holds up the others")
        # Its key was used for another transfer, which takes a dead letter.
        await request(shop, wallets[::-1], reply_to="", key=key)
        for one in (*transfers.ids[:BATCH_SIZE], *stuck.ids, *transfers.ids[BATCH_SIZE:]):
            await announce(site.publisher, [one])
        await holder.close()
        async with asyncio.timeout(20):
            await points.struck.wait()
        await circuit_open(workshop)
        await keeper.close()
        site.database_line.plug()
        await _circuit_closed(workshop)
        site.broker_line.plug()
        await all_completed(database, [*transfers.ids, *stuck.ids])
    await nothing_unsettled(site.channel)
    await _dead_letters(site.channel, 1)


async def _is_held(workshop: Workshop) -> bool:
    return workshop.consumer.octets_in_hand > 0


async def test_a_batch_that_a_lock_holds_for_too_long_is_given_back_and_comes_again(
    database: Connection, site: Site
) -> None:
    transfers = await recorded_transfers(database, 3)
    before = metric(_GIVEN_BACK)
    holder = await _lock(site.database_url, transfers.source)
    async with processing(
        site.database_url, site.broker_url, lock_timeout_s=0.2, held_max_s=0.5
    ) as workshop:
        await announce(site.publisher, transfers.ids)

        async def given_back() -> bool:
            return metric(_GIVEN_BACK) > before

        await eventually(given_back, what="a batch that is given back")
        posted = await completed(database, transfers.ids)
        openings = workshop.circuit.is_open
        await holder.close()
        await all_completed(database, transfers.ids)
    await nothing_unsettled(site.channel)

    assert (posted, openings) == (0, False)
    await assert_posted_once(database, transfers)


async def test_nothing_is_acked_on_a_channel_whose_consumer_the_broker_cancelled(
    database: Connection, site: Site
) -> None:
    """Its queue is deleted while a batch is in hand: nobody knows those deliveries any more."""
    transfers = await recorded_transfers(database, 2)
    holder = await _lock(site.database_url, transfers.source)
    async with processing(site.database_url, site.broker_url, lock_timeout_s=20) as workshop:
        await announce(site.publisher, transfers.ids[:1])
        await eventually(lambda: _is_held(workshop), what="a batch in hand")
        await site.channel.queue_delete(QUEUE)

        async def is_ended() -> bool:
            return workshop.consumer.octets_in_hand == 0

        await eventually(is_ended, what="the end of what that channel delivered")
        await declare_topology(site.broker_url, partitions=1)
        await announce(site.publisher, transfers.ids[1:])
        await holder.close()
        await all_completed(database, transfers.ids)
    await nothing_unsettled(site.channel)

    await assert_posted_once(database, transfers)


async def test_large_messages_wait_with_the_broker_and_come_in_their_order(
    site: Site, shop: Channel
) -> None:
    octets_max, size, count = 1024 * 1024, 256 * 1024, 24
    bodies = [bytes([number]) * size for number in range(count)]
    for body in bodies:
        await shop.basic_publish(body, exchange="ackledger.transactions", routing_key="any")
    consumer = partition_consumer(site.broker_url, QUEUE, prefetch=100, octets_max=octets_max)
    taken: list[bytes] = []
    most = 0
    async with running(consumer):
        while len(taken) < count:
            deliveries = await consumer.take(1)
            most = max(most, consumer.octets_in_hand)
            taken += [one.body for one in deliveries]
            await consumer.ack(deliveries)

    assert taken == bodies
    # One more reading of the socket may be on its way when the bound is passed.
    assert most <= octets_max + 2 * size
    assert consumer.octets_in_hand == 0
