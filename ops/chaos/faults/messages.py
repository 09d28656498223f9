"""Messages that faults need of their own; the load knows nothing of them."""

import asyncio
import time
from typing import Final
from uuid import uuid4

import orjson

from ops.chaos.scene import LOOK_INTERVAL_S, NotStruckError, Scene
from ops.clients.amqp import UpstreamMessage, UpstreamPublisher
from ops.system import CLIENT
from runtime.queries import load_queries

FINAL_BOUND_S: Final = 30.0


async def publish(scene: Scene, message: UpstreamMessage) -> None:
    """Have the broker confirm a message of the upstream system."""
    async with UpstreamPublisher(scene.upstream_url) as upstream:
        await upstream.send(message)
        await upstream.flush()


async def await_all_before_now(scene: Scene) -> None:
    """Return when every message that is in the queue now is posted.

    A last message is the proof, since a queue is posted in its order: a withdrawal from a wallet
    that never was, so that it moves nothing.
    """
    key, wallet = f"fence-{uuid4().hex}", str(uuid4())
    body = {
        "version": 1,
        "idempotency_key": key,
        "type": "withdrawal",
        "source_wallet_id": wallet,
        "amount": "1.00",
        "currency": "USD",
    }
    await publish(scene, UpstreamMessage(routing_key=wallet, body=orjson.dumps(body)))
    await await_final(scene, key)


async def await_final(scene: Scene, key: str) -> None:
    """Return when the transaction of a key has ended; raises NotStruckError."""
    await await_row(scene, "is_final_by_key", CLIENT, key, what=f"{key} is final")


async def await_row(scene: Scene, query: str, *arguments: object, what: str) -> object:
    """Return what a query finds, as soon as it finds it; raises NotStruckError."""
    statement = load_queries("ops.chaos.faults")[query]
    deadline = time.monotonic() + FINAL_BOUND_S
    async with scene.books() as connection:
        while not (found := await connection.fetchval(statement, *arguments)):
            if time.monotonic() > deadline:
                raise NotStruckError(f"not within {FINAL_BOUND_S:g} s: {what}")
            await asyncio.sleep(LOOK_INTERVAL_S)
    return found
