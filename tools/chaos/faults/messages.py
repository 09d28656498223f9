"""Messages that faults need of their own; the load knows nothing of them."""

import asyncio
import time
from typing import Final
from uuid import uuid4

import orjson
from pamqp.commands import Basic

from ackledger.client.publishing import AsyncPublisher
from contracts.messages import REQUESTED_TYPE
from contracts.topology import partition_queue
from runtime.amqp.connection import Channel, close, connect, open_channel, user_of
from runtime.amqp.publisher import PERSISTENT
from runtime.postgres.queries import load_queries
from tools.chaos.load.poison import poison
from tools.chaos.scene import LOOK_INTERVAL_S, NotStruckError, Scene

FINAL_BOUND_S: Final = 30.0
_CONFIRM_S: Final = 5.0
_SMALL: Final = 1
"""Poison of number 0 is bulky."""
_MARK_PREFIX: Final = "chaos-0-poison-0-"
"""The shape of a client's mark, so that its dead letter is known for what it is."""


async def publish_poison(scene: Scene, count: int) -> None:
    """Have the broker confirm so many messages that nobody can process."""
    async with AsyncPublisher(scene.upstream_url) as upstream:
        for number in range(count):
            await upstream.send(poison(_SMALL + number, f"{_MARK_PREFIX}{number}").message)
        await upstream.flush()


async def publish(channel: Channel, body: bytes, *, exchange: str, key: str, user: str) -> None:
    """Publish a request with the service's own rights, and return when it is confirmed."""
    await channel.basic_publish(
        body,
        exchange=exchange,
        routing_key=key,
        properties=Basic.Properties(
            content_type="application/json",
            delivery_mode=PERSISTENT,
            message_id=uuid4().hex,
            message_type=REQUESTED_TYPE,
            user_id=user,
        ),
        mandatory=True,
        timeout=_CONFIRM_S,
    )


async def await_all_before_now(scene: Scene) -> None:
    """Return when every message that is in a partition's queue now is posted.

    A last message in each is the proof, since a queue is posted in its order: a withdrawal from a
    wallet that never was, so that it moves nothing.
    """
    url = scene.stack.rabbitmq.url
    keys = [f"fence-{uuid4().hex}" for _ in range(scene.shape.partitions)]
    connection = await connect(url, name="chaos")
    try:
        channel = await open_channel(connection)
        for partition, key in enumerate(keys):
            queue = partition_queue(partition)
            await publish(channel, _fence(key), exchange="", key=queue, user=user_of(url))
    finally:
        await close(connection)
    for key in keys:
        await await_final(scene, user_of(url), key)


def _fence(key: str) -> bytes:
    body = {
        "version": 1,
        "idempotency_key": key,
        "type": "withdrawal",
        "source_wallet_id": str(uuid4()),
        "amount": "1.00",
        "currency": "USD",
    }
    return orjson.dumps(body)


async def await_final(scene: Scene, submitter: str, key: str) -> None:
    """Return when the transaction of a key has ended; raises NotStruckError."""
    await await_row(scene, "is_final_by_key", submitter, key, what=f"{key} is final")


async def await_row(scene: Scene, query: str, *arguments: object, what: str) -> object:
    """Return what a query finds, as soon as it finds it; raises NotStruckError."""
    statement = load_queries("tools.chaos.faults")[query]
    deadline = time.monotonic() + FINAL_BOUND_S
    async with scene.books() as connection:
        while not (found := await connection.fetchval(statement, *arguments)):
            if time.monotonic() > deadline:
                raise NotStruckError(f"not within {FINAL_BOUND_S:g} s: {what}")
            await asyncio.sleep(LOOK_INTERVAL_S)
    return found
