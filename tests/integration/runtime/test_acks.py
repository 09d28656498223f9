"""Acks reach the broker in the order in which deliveries were settled, whoever sends them."""

import asyncio
import random
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection

from cli.clients.management import Management
from runtime.amqp.consumer import Consumer
from runtime.amqp.incoming import Arrival, DeliveringChannel
from runtime.amqp.watchdog import Loss
from tests.integration.reconciler.serving import running
from tests.support import eventually
from tools.stack import Stack

_MESSAGES = 2000


@dataclass(frozen=True)
class _Taken:
    channel: DeliveringChannel
    tag: int
    weight: int = 1

    @classmethod
    def of(cls, arrival: Arrival) -> "_Taken":
        """Return a delivery as it came."""
        return cls(arrival.channel, arrival.tag)


async def _filled(connection: AbstractConnection, name: str) -> None:
    """Make a quorum queue that holds _MESSAGES."""
    channel = await connection.channel()
    await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
    publish = channel.default_exchange.publish
    await asyncio.gather(*(publish(aio_pika.Message(b""), name) for _ in range(_MESSAGES)))


@pytest.mark.parametrize("seed", range(3))
async def test_many_that_ack_at_once_lose_no_channel(
    stack: Stack, vhost_url: str, seed: int
) -> None:
    """An ack of many that overtakes an ack of one of them names a delivery that is settled.

    The broker closes the channel for it.
    """
    queue = uuid4().hex
    assert stack.rabbitmq.management_url is not None
    management = Management(stack.rabbitmq.management_url)
    path = f"/api/queues/{urlsplit(vhost_url).path[1:]}/{queue}"
    async with await aio_pika.connect(vhost_url) as connection:
        await _filled(connection, queue)
        losses: list[Loss] = []
        consumer = Consumer(
            vhost_url,
            queue,
            name="test",
            decode=_Taken.of,
            prefetch=_MESSAGES,
            on_rebuilt=losses.append,
        )
        async with running(consumer):
            taken: list[_Taken] = []
            async with asyncio.timeout(30):
                while len(taken) < _MESSAGES:
                    taken += await consumer.take(_MESSAGES)
            chance = random.Random(seed)

            async def ack(one: _Taken) -> None:
                for _ in range(one.tag // 40 + chance.randrange(8)):
                    await asyncio.sleep(0)
                await consumer.ack([one])

            async with asyncio.timeout(30):
                await asyncio.gather(*map(ack, taken))

            async def is_empty() -> bool:
                """Whether every ack was taken: a channel that closes may leave some of them."""
                answer = await asyncio.to_thread(management.call, "GET", path)
                acked = answer.get("message_stats", {}).get("ack")
                return bool((acked, answer.get("messages")) == (_MESSAGES, 0))

            # The broker counts every five seconds.
            await eventually(is_empty, what="a queue without a message")
            # What is sent last is answered last: the channel lives, so every ack was well.
            is_alive = consumer.is_current(taken[0])

    assert is_alive
    assert losses == []
