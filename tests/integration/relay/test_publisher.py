"""Publishing many at once: every message once, in order, and only Basic.Ack believed."""

import asyncio

import pytest
from yarl import URL

from contracts.topology import EVENTS_EXCHANGE
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import (
    NotConfirmedError,
    Outgoing,
    Publisher,
    RefusedError,
    UnroutableError,
)
from tests.integration.reconciler.serving import running
from tests.integration.relay.queues import bind_queue, depth, emptied, memory_alarm
from tests.support import eventually
from tools.stack import Stack
from tools.stack.rabbitmq import PrivateRabbitMQ

_QUEUE = "events"


def _message(number: int, *, key: str = "transaction.completed.deposit.USD") -> Outgoing:
    return Outgoing(
        exchange=EVENTS_EXCHANGE,
        routing_key=key,
        body=str(number).encode(),
        type="transaction.completed.v1",
        headers={"x-request-id": f"request-{number}"},
    )


async def test_many_messages_arrive_once_and_in_order(
    publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)

    await publisher.publish_all([_message(one) for one in range(1500)], timeout_s=20)

    arrived = await emptied(channel, _QUEUE)
    properties = [message.header.properties for message in arrived]
    assert [int(message.body) for message in arrived] == list(range(1500))
    assert len({one.message_id for one in properties}) == 1500
    assert {one.delivery_mode for one in properties} == {2}
    assert [one.headers for one in properties] == [
        {"x-request-id": f"request-{number}"} for number in range(1500)
    ]


async def test_a_body_longer_than_a_frame_arrives_whole(
    publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    body = bytes(range(256)) * 2000

    await publisher.publish(Outgoing(EVENTS_EXCHANGE, "any", body, "long.v1"), timeout_s=20)
    await publisher.publish(Outgoing(EVENTS_EXCHANGE, "any", b"", "empty.v1"), timeout_s=20)

    assert [message.body for message in await emptied(channel, _QUEUE)] == [body, b""]


async def test_one_message_that_no_queue_takes_spoils_its_flight_and_no_other(
    publisher: Publisher, channel: Channel
) -> None:
    await channel.queue_declare(_QUEUE, durable=True)
    await channel.queue_bind(_QUEUE, EVENTS_EXCHANGE, "known")
    good = [_message(number, key="known") for number in range(50)]
    mixed = [*good[:25], _message(99, key="unknown"), *good[25:]]

    outcomes = await asyncio.gather(
        publisher.publish_all(good, timeout_s=20),
        publisher.publish_all(mixed, timeout_s=20),
        publisher.publish_all(good, timeout_s=20),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [type(None), UnroutableError, type(None)]
    assert await depth(channel, _QUEUE) == 150


async def test_a_message_that_a_full_queue_refuses_is_not_confirmed(
    publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE, refuses_beyond=10)

    with pytest.raises(RefusedError, match="refused") as caught:
        await publisher.publish_all([_message(one) for one in range(50)], timeout_s=20)

    refused, arrived = caught.value.refused, await emptied(channel, _QUEUE)
    assert refused
    assert sorted([*refused, *(int(message.body) for message in arrived)]) == list(range(50))
    await channel.queue_purge(_QUEUE)
    await publisher.publish(_message(51), timeout_s=20)


async def test_calls_side_by_side_each_learn_their_own_outcome(
    publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    numbers = [list(range(start, start + 20)) for start in range(0, 2000, 20)]

    await asyncio.gather(
        *(publisher.publish_all([_message(n) for n in some], timeout_s=20) for some in numbers)
    )

    arrived = [int(message.body) for message in await emptied(channel, _QUEUE)]
    assert arrived == list(range(2000))


async def test_a_channel_that_the_broker_closes_fails_what_is_in_flight_and_is_made_again(
    publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    nowhere = Outgoing("no-such-exchange", "any", b"", "any.v1")

    with pytest.raises(NotConfirmedError):
        await publisher.publish_all([nowhere, *map(_message, range(100))], timeout_s=20)

    async def published() -> bool:
        await publisher.wait_until_up()
        try:
            await publisher.publish(_message(1), timeout_s=5)
        except NotConfirmedError:
            return False
        return True

    await eventually(published, what="a new channel")


async def test_a_call_that_gave_up_leaves_the_tags_of_the_next_right(
    publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    with pytest.raises(NotConfirmedError):
        await publisher.publish_all([_message(one) for one in range(500)], timeout_s=0)

    await publisher.publish_all([_message(one) for one in range(500, 600)], timeout_s=20)

    arrived = [int(message.body) for message in await emptied(channel, _QUEUE)]
    assert arrived[-100:] == list(range(500, 600))


async def test_a_blocked_connection_takes_one_flight_and_goes_on_when_it_is_free(
    own_stack: Stack, publisher: Publisher, channel: Channel
) -> None:
    assert isinstance(own_stack.rabbitmq, PrivateRabbitMQ)
    await bind_queue(channel, _QUEUE)
    async with memory_alarm(own_stack.rabbitmq):
        for start in (0, 100, 200):
            with pytest.raises(NotConfirmedError):
                await publisher.publish_all(
                    [_message(one) for one in range(start, start + 100)], timeout_s=0.5
                )
    await publisher.publish_all([_message(one) for one in range(300, 400)], timeout_s=20)

    # The first was written before the broker said that it is blocked; nothing was written then.
    arrived = [int(message.body) for message in await emptied(channel, _QUEUE)]
    assert arrived == [*range(100), *range(300, 400)]


_RECORD = 'Q = rabbit_misc:r(<<"{host}">>, queue, <<"{queue}">>), '
_TAKE_DOWN = _RECORD + "mnesia:dirty_delete(rabbit_queue, Q)."
_PUT_UP = _RECORD + (
    "[mnesia:dirty_write(rabbit_queue, R) || R <- mnesia:dirty_read(rabbit_durable_queue, Q)]."
)


async def test_nothing_is_published_past_a_stream_that_is_not_up_yet(
    own_stack: Stack, broker_url: str, channel: Channel
) -> None:
    """As in the first moment after a broker's start, when it routes past its streams."""
    broker, stream = own_stack.rabbitmq, "late"
    assert isinstance(broker, PrivateRabbitMQ)
    if not broker.version.startswith("3."):
        pytest.skip("the record that is taken away here is kept elsewhere")
    host = {"host": URL(broker_url).path[1:], "queue": stream}
    await bind_queue(channel, _QUEUE)
    await channel.queue_declare(stream, durable=True, arguments={"x-queue-type": "stream"})
    await channel.queue_bind(stream, EVENTS_EXCHANGE, "#")
    await asyncio.to_thread(broker.control, "eval", _TAKE_DOWN.format(**host))
    publisher = Publisher(broker_url, name="events", awaited_queue=stream)

    async def publish() -> None:
        await publisher.wait_until_up()
        await publisher.publish(_message(1), timeout_s=20)

    async with running(publisher):
        publishing = asyncio.create_task(publish())
        # It takes rabbitmqctl a second: longer than a publisher that does not wait.
        await asyncio.to_thread(broker.control, "eval", _PUT_UP.format(**host))
        await publishing

    async def has_it() -> bool:
        return await depth(channel, stream) == 1

    await eventually(has_it, what="the stream has it")
    assert await depth(channel, _QUEUE) == 1


async def test_a_queue_that_does_not_exist_is_not_waited_for(
    broker_url: str, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    publisher = Publisher(broker_url, name="events", awaited_queue="nowhere")

    async with running(publisher):
        await publisher.wait_until_up()
        await publisher.publish(_message(1), timeout_s=20)

    assert await depth(channel, _QUEUE) == 1
