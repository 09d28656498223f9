"""Queues that tests publish to: bound to the events, read to their end, some that refuse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiormq.abc import DeliveredMessage
from pamqp.common import FieldTable

from contracts.topology import EVENTS_EXCHANGE
from runtime.amqp.connection import Channel
from tests.support import eventually
from tools.stack.rabbitmq import PrivateRabbitMQ


async def bind_queue(channel: Channel, name: str, *, refuses_beyond: int | None = None) -> None:
    """Declare a durable queue and bind it to all events; beyond a length it nacks."""
    limits: FieldTable = (
        {}
        if refuses_beyond is None
        else {"x-max-length": refuses_beyond, "x-overflow": "reject-publish"}
    )
    await channel.queue_declare(name, durable=True, arguments=limits)
    await channel.queue_bind(name, EVENTS_EXCHANGE, "#")


async def depth(channel: Channel, name: str) -> int:
    """Return how many messages wait in a queue."""
    return (await channel.queue_declare(name, passive=True)).message_count or 0


async def at_least(channel: Channel, name: str, count: int) -> int:
    """Return the depth of a queue once it holds some messages."""

    async def look() -> int | None:
        found = await depth(channel, name)
        return found if found >= count else None

    return await eventually(look, what=f"{count} messages in {name}", within_s=60)


async def emptied(channel: Channel, name: str) -> list[DeliveredMessage]:
    """Take all messages out of a queue, in their order."""
    count = await depth(channel, name)
    return [await channel.basic_get(name, no_ack=True) for _ in range(count)]


@asynccontextmanager
async def memory_alarm(broker: PrivateRabbitMQ) -> AsyncIterator[None]:
    """Block every connection that publishes, as a broker short of memory does."""
    await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "absolute", "1")
    try:
        yield
    finally:
        await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "0.4")
