"""The broker's topology: declared by `ackledger migrate`, only looked at by everyone else."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import (
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionCommandInvalid,
)

from contracts.topology import EXCHANGES, NO_EVENTS, EventQueues, Exchange, Queue, queues
from runtime.amqp.connection import Channel, close, connect, open_channel

STARTING_S: Final = 30.0
"""For queues to come up after the broker did: streams take some seconds longer than others."""
STARTING_PAUSE_S: Final = 0.5
_DOWN: Final = "is down or inaccessible"


class TopologyError(Exception):
    """The broker's exchanges or queues are missing or differ; the message says what mends it."""


class QueueDownError(ConnectionError):
    """A queue that there is does not answer: it is not up yet, or its node is away."""


async def declare_topology(
    url: str, *, partitions: int, events: EventQueues = NO_EVENTS
) -> list[str]:
    """Declare every exchange, queue and binding, and return their names; safe to run again.

    Those of `events` are bound to the events; the others are unbound.
    Raises TopologyError when one exists with other arguments or the broker lacks the plugin.
    """
    connection = await connect(url, name="migrate")
    try:
        async with asyncio.timeout(STARTING_S):
            return await _declared(connection, queues(partitions, events))
    except ConnectionCommandInvalid as error:
        raise TopologyError(
            "the broker does not know the exchange type x-consistent-hash; "
            "run: rabbitmq-plugins enable rabbitmq_consistent_hash_exchange"
        ) from error
    except ChannelPreconditionFailed as error:
        raise TopologyError(
            f"the broker has it with other arguments ({error}); "
            "drain and delete the queue or exchange, then run: ackledger migrate"
        ) from error
    finally:
        await close(connection)


async def _declared(connection: AbstractConnection, wanted: Sequence[Queue]) -> list[str]:
    """Declare all of it, again while a queue is not up; the caller bounds it."""
    while True:
        channel = await open_channel(connection)
        try:
            return await _declare(channel, EXCHANGES, wanted)
        except ChannelNotFoundEntity as error:
            if _DOWN not in str(error):
                raise
            await asyncio.sleep(STARTING_PAUSE_S)


class QueueState(NamedTuple):
    """A queue as the broker sees it: messages that nobody has in hand, and active consumers."""

    waiting: int
    consumers: int


async def check_queue(channel: Channel, name: str) -> int:
    """Return how many messages wait in a queue; raises TopologyError when there is none."""
    return (await look_at_queue(channel, name)).waiting


async def look_at_queue(channel: Channel, name: str) -> QueueState:
    """Return a queue's state; raises TopologyError when there is none, and QueueDownError."""
    try:
        declared = await channel.queue_declare(name, passive=True)
    except ChannelNotFoundEntity as error:
        if _DOWN in str(error):
            raise QueueDownError(f"the queue {name} is not up") from error
        raise TopologyError(f"the queue {name} is missing; run: ackledger migrate") from error
    return QueueState(waiting=declared.message_count or 0, consumers=declared.consumer_count or 0)


async def _declare(
    channel: Channel, exchanges: Sequence[Exchange], wanted: Sequence[Queue]
) -> list[str]:
    for exchange in exchanges:
        await channel.exchange_declare(exchange.name, exchange_type=exchange.type, durable=True)
    for queue in wanted:
        await channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        if queue.is_bound:
            await channel.queue_bind(queue.name, queue.exchange, queue.binding_key)
        else:
            # To unbind what is not bound changes nothing.
            await channel.queue_unbind(queue.name, queue.exchange, queue.binding_key)
        if queue.former_exchange is not None:
            await channel.queue_unbind(queue.name, queue.former_exchange, "#")
    return [exchange.name for exchange in exchanges] + [queue.name for queue in wanted]
