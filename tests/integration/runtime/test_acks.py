"""Acks reach the broker in the order in which deliveries were settled, whoever sends them."""

import asyncio
import random
from dataclasses import dataclass
from uuid import uuid4

import aio_pika
import pytest

from runtime.amqp.consumer import Consumer
from runtime.amqp.watchdog import Loss
from runtime.amqp.wire.deliveries import Arrival, DeliveringChannel
from tests.integration.reconciler.serving import running
from tests.support import eventually

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


@pytest.mark.parametrize("seed", range(3))
async def test_many_that_ack_at_once_lose_no_channel(vhost_url: str, seed: int) -> None:
    """An ack of many that overtakes an ack of one of them names a delivery that is settled.

    The broker closes the channel for it.
    """
    queue = uuid4().hex
    async with await aio_pika.connect(vhost_url) as connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(
            queue, durable=True, arguments={"x-queue-type": "quorum"}
        )
        await asyncio.gather(
            *(
                channel.default_exchange.publish(aio_pika.Message(b""), queue)
                for _ in range(_MESSAGES)
            )
        )
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
            # What is sent last is answered last: the channel lives, so every ack was well.
            is_alive = consumer.is_current(taken[0])

        async def is_empty() -> bool:
            # A quorum queue settles a moment after it was told.
            return (await declared.declare()).message_count == 0

        await eventually(is_empty, what="a queue without a message")

    assert is_alive
    assert losses == []
