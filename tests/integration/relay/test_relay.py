"""The relay under attack: nothing is missing, and what comes twice says so."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from contracts.topology import EVENT_BUNDLES, EVENTS_EXCHANGE, EVENTS_LOG, EventQueues
from ledger.words import TransactionType
from processor.deciding import WalletCache
from processor.events.buffer import EventBuffer
from processor.events.refused import FLIGHT_MAX
from processor.events.relay import FLIGHTS_MAX, LEFT_BEHIND_S, OWED_MAX
from processor.poster import Poster
from runtime.amqp.connection import Channel, close, connect, open_channel
from runtime.amqp.publisher import NotConfirmedError, Outgoing, Publisher
from runtime.amqp.stream import open_stream
from runtime.amqp.topology import declare_topology
from runtime.event_log.event import LoggedEvent, next_events
from runtime.postgres.pool import Connection, Pool
from runtime.service.fault_points import Fault, FaultPoint, OrderedFaultPoints
from tests.integration.processor.books import add_wallets, record, transfer_command
from tests.integration.reconciler.serving import running
from tests.integration.relay.queues import at_least, bind_queue, emptied
from tests.integration.relay.relaying import (
    assert_each_has_one_event,
    ids_of,
    owed_rows,
    post,
    relay_of,
)
from tests.support import eventually
from tools.stack import Stack
from tools.stack.rabbitmq import PrivateRabbitMQ

_QUEUE = "events"


async def test_a_round_larger_than_what_may_be_in_flight_arrives_whole_and_in_order(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    batches = 3
    # Rows and flights do not end together.
    ids = await post(pool, database, batches=batches, batch=FLIGHTS_MAX * FLIGHT_MAX // 2 + 7)

    relayed = await relay_of(pool, publisher).run_once()

    assert (relayed.owed, relayed.events) == (batches, len(ids))
    assert ids_of(await emptied(channel, _QUEUE)) == ids
    assert await owed_rows(database) == 0


async def test_the_oldest_rows_go_first_and_the_rest_in_the_next_round(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=OWED_MAX + 3, batch=2)
    relay = relay_of(pool, publisher)

    rounds = [(await relay.run_once()).owed for _ in range(3)]

    assert rounds == [OWED_MAX, 3, 0]
    assert ids_of(await emptied(channel, _QUEUE)) == ids


async def test_a_broker_that_is_killed_in_the_middle_costs_no_event(
    own_stack: Stack, pool: Pool, database: Connection, publisher: Publisher, broker_url: str
) -> None:
    connection = await connect(broker_url, name="test-before")
    before = await open_channel(connection)
    await bind_queue(before, _QUEUE)
    # RabbitMQ answers before a new binding is on its disk, and a crash within seconds forgets it:
    # in one of twenty, what was published after the restart had nowhere to go.
    assert isinstance(own_stack.rabbitmq, PrivateRabbitMQ)
    await asyncio.to_thread(own_stack.rabbitmq.control, "eval", "mnesia:sync_log().")
    ids = await post(pool, database, batches=5 * OWED_MAX)
    async with running(relay_of(pool, publisher)):
        await at_least(before, _QUEUE, 1)
        await asyncio.to_thread(own_stack.rabbitmq.kill)
        owed_at_the_kill = await owed_rows(database)
        await close(connection)
        await asyncio.to_thread(own_stack.rabbitmq.start)

        async def told() -> bool:
            return await owed_rows(database) == 0

        await eventually(told, what="the outbox is empty", within_s=60)

    connection = await connect(broker_url, name="test-after")
    arrived = await emptied(await open_channel(connection), _QUEUE)
    await close(connection)
    assert owed_at_the_kill > 0
    assert_each_has_one_event(arrived, ids)


class _InterruptedPublisher(Publisher):
    """Publishes some flights of a round; the others wait until they are let go."""

    def __init__(self, url: str, *, flights: int) -> None:
        super().__init__(url, name="test-publish")
        self._flights_left = flights
        self.let_go = asyncio.Event()

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout_s: float) -> None:
        """Publish, once this flight may leave."""
        self._flights_left -= 1
        if self._flights_left < 0:
            await self.let_go.wait()
        await super().publish_all(messages, timeout_s=timeout_s)


async def test_a_channel_that_closes_in_the_middle_costs_no_event(
    pool: Pool, database: Connection, channel: Channel, broker_url: str
) -> None:
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=OWED_MAX)
    # Before the others go the first flight's bundle and its first event: these ask whether a log
    # is kept, and whether anybody is there.
    publisher = _InterruptedPublisher(broker_url, flights=OWED_MAX // 2 + 2)
    async with running(publisher):
        await publisher.wait_until_up()
        relay = relay_of(pool, publisher)

        round_under_way = asyncio.ensure_future(relay.run_once())
        arrived = await at_least(channel, _QUEUE, len(ids) // 2)
        # Publishing to an exchange that is gone closes the channel. The rest waits for that: within
        # the time of a deletion all of it could have left.
        await channel.exchange_delete(EVENTS_EXCHANGE)
        publisher.let_go.set()
        with pytest.raises(NotConfirmedError):
            await round_under_way
        owed = await owed_rows(database)

        await declare_topology(broker_url, partitions=1)
        await channel.queue_bind(_QUEUE, EVENTS_EXCHANGE, "#")
        await publisher.wait_until_up()
        await relay.run_once()
    # What was confirmed is owed no longer.
    assert (owed, await owed_rows(database)) == (OWED_MAX // 2, 0)
    assert arrived == len(ids) // 2
    assert_each_has_one_event(await emptied(channel, _QUEUE), ids)


async def test_a_relay_that_ends_between_confirm_and_delete_tells_it_again_under_the_same_ids(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel, tmp_path: Path
) -> None:
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=2, batch=10)
    (tmp_path / FaultPoint.RELAY_PUBLISHED.value).write_text(Fault.CANCEL.value)
    relay = relay_of(pool, publisher, OrderedFaultPoints(tmp_path))

    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(relay.run_once())
    owed = await owed_rows(database)
    await relay.run_once()

    arrived = await emptied(channel, _QUEUE)
    assert (owed, await owed_rows(database), len(arrived)) == (2, 0, 40)
    assert_each_has_one_event(arrived, ids)


async def test_what_another_process_posted_is_left_to_it_for_a_second(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=2)

    async with running(relay_of(pool, publisher)):
        await at_least(channel, _QUEUE, len(ids))
        told_after_s = await database.fetchval(
            "SELECT extract(epoch FROM clock_timestamp() - min(completed_at)) FROM transactions"
        )

    assert told_after_s >= LEFT_BEHIND_S


async def test_two_relays_share_the_outbox_and_tell_each_event_once(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel, broker_url: str
) -> None:
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=2 * OWED_MAX, batch=100)
    standby = Publisher(broker_url, name="test-standby")
    async with running(standby):
        await standby.wait_until_up()

        rounds = await asyncio.gather(
            relay_of(pool, publisher).run_once(), relay_of(pool, standby).run_once()
        )

    arrived = await emptied(channel, _QUEUE)
    assert [one.owed for one in rounds] == [OWED_MAX, OWED_MAX]
    assert (len(arrived), await owed_rows(database)) == (len(ids), 0)
    assert_each_has_one_event(arrived, ids)


class _CountingPublisher(Publisher):
    """A publisher that knows what it was asked to send."""

    def __init__(self, url: str) -> None:
        super().__init__(url, name="test-publish")
        self.sent: list[Outgoing] = []

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout_s: float) -> None:
        self.sent += messages
        await super().publish_all(messages, timeout_s=timeout_s)


async def test_of_rows_in_memory_what_is_heard_is_sent_in_order_and_the_rest_passed_over(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    """Transfers alone, then deposits among them, then transfers alone; only deposits are bound."""
    alice, bob = await add_wallets(database, 2, balance=1_000_000)
    buffer = EventBuffer()
    poster = Poster(pool, wallet_cache=WalletCache(), event_buffer=buffer)
    relay = relay_of(pool, publisher, event_buffer=buffer)
    await channel.queue_declare(_QUEUE, durable=True)
    await channel.queue_bind(_QUEUE, EVENTS_EXCHANGE, "transaction.completed.deposit.#")
    deposits: list[UUID] = []
    count = 3 * FLIGHT_MAX
    for number in range(3):
        commands = [
            transfer_command(f"{number}-{place:03}", alice, bob, 1) for place in range(count)
        ]
        if number == 1:
            for place in (FLIGHT_MAX, count - 2):
                commands[place] = commands[place]._replace(
                    type=TransactionType.DEPOSIT, source_wallet_id=None
                )
        ids = await record(database, commands)
        await poster.post(ids)
        deposits += [ids[FLIGHT_MAX], ids[count - 2]] if number == 1 else []

    relayed = await relay.run_once()

    assert (relayed.owed, relayed.events, relayed.is_heard) == (3, 3 * count, True)
    assert ids_of(await emptied(channel, _QUEUE)) == deposits
    assert (await owed_rows(database), buffer.size) == (0, 0)


async def test_of_events_that_no_queue_takes_one_is_sent_in_each_way_and_all_are_done_with(
    pool: Pool, database: Connection, broker_url: str, channel: Channel
) -> None:
    ids = await post(pool, database, batches=3)
    publisher = _CountingPublisher(broker_url)
    async with running(publisher):
        await publisher.wait_until_up()
        relay = relay_of(pool, publisher)
        unheard = await relay.run_once()
        sent, publisher.sent = publisher.sent, []
        await bind_queue(channel, _QUEUE)
        later = await post(pool, database, batches=2)
        heard = await relay.run_once()

    assert (unheard.events, unheard.is_heard) == (len(ids), False)
    assert heard.is_heard
    assert [one.exchange for one in sent] == [EVENT_BUNDLES, EVENTS_EXCHANGE]
    assert all(one.is_mandatory for one in sent)
    # Whoever binds before a commit misses nothing of it.
    assert ids_of(await emptied(channel, _QUEUE)) == later
    assert [one.exchange for one in publisher.sent].count(EVENTS_EXCHANGE) == len(later)
    assert await owed_rows(database) == 0


async def test_the_log_has_all_events_in_a_few_messages_whoever_else_receives_them(
    pool: Pool, database: Connection, broker_url: str, channel: Channel
) -> None:
    await declare_topology(broker_url, partitions=1, events=EventQueues(is_log_kept=True))
    publisher = _CountingPublisher(broker_url)
    async with running(publisher):
        await publisher.wait_until_up()
        relay = relay_of(pool, publisher)
        ids = await post(pool, database, batches=3)
        # Whoever takes bundles hears them, too.
        assert (await relay.run_once()).is_heard
        bundles, publisher.sent = publisher.sent, []
        await bind_queue(channel, _QUEUE)
        later = await post(pool, database, batches=2)
        await relay.run_once()

    events: list[LoggedEvent] = []
    async with open_stream(
        broker_url, EVENTS_LOG, name="test", start="first", prefetch=50
    ) as stream:
        while len(events) < len(ids) + len(later):
            events += await next_events(stream, within_s=10)
    assert [UUID(one.transaction_id) for one in events] == [*ids, *later]
    # One single event asks whether anybody else receives them.
    assert [one.exchange for one in bundles].count(EVENTS_EXCHANGE) == 1
    assert len(bundles) == 1 + len(ids) // FLIGHT_MAX
    singles = await emptied(channel, _QUEUE)
    assert ids_of(singles) == later
    assert [one.body for one in singles] == [one.body for one in events[len(ids) :]]
    assert await owed_rows(database) == 0


async def test_a_queue_behind_an_alternate_exchange_receives_events(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await channel.exchange_declare("unheard", exchange_type="fanout")
    await channel.queue_declare(_QUEUE)
    await channel.queue_bind(_QUEUE, "unheard")
    await channel.exchange_delete(EVENTS_EXCHANGE)
    await channel.exchange_declare(
        EVENTS_EXCHANGE,
        exchange_type="topic",
        durable=True,
        arguments={"alternate-exchange": "unheard"},
    )
    ids = await post(pool, database, batches=2)

    await relay_of(pool, publisher).run_once()

    assert ids_of(await emptied(channel, _QUEUE)) == ids


async def test_what_a_batch_owes_is_not_compressed(database: Connection) -> None:
    """It is deleted milliseconds later, and compressing it would hold up the batch."""
    await database.execute(
        """
        INSERT INTO outbox (id, event_type, transaction_ids, created_at, wallets)
        SELECT
            gen_random_uuid(), 'completed', array_fill(gen_random_uuid(), ARRAY[1000]), now(),
            ('{"limits": ' || to_json(repeat('a', 20000)) || '}')::json
        """
    )
    ids = await database.fetchval("SELECT pg_column_size(transaction_ids) FROM outbox")
    wallets = await database.fetchval("SELECT pg_column_size(wallets) FROM outbox")

    assert ids >= 1000 * 16
    assert wallets >= 20_000
