"""What upstream's tests look for: transactions by key, dead letters, and messages of a queue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.support import deposit, eventually, requested

ARRIVAL_S = 15.0


async def ended(api: CheckedApi, key: str, *, within_s: float = 10.0) -> dict[str, Any]:
    """Return the transaction under a key of the submitter, once it is final."""

    async def look() -> dict[str, Any] | None:
        items = (await api.get("/v1/transactions", idempotency_key=key)).json["items"]
        if not items or items[0]["status"] == "PENDING":
            return None
        found: dict[str, Any] = items[0]
        return found

    return await eventually(look, what=f"the end of {key}", within_s=within_s)


async def dead_letters(database_url: str, marker: bytes) -> list[asyncpg.Record]:
    """Return the stored dead letters whose body holds some bytes."""
    connection = await connect(database_url, name="test")
    try:
        return list(
            await connection.fetch(
                "SELECT * FROM dead_letters WHERE position($1 IN body) > 0 ORDER BY first_seen_at",
                marker,
            )
        )
    finally:
        await connection.close()


async def dead_letter(database_url: str, marker: bytes) -> asyncpg.Record:
    """Return the dead letter whose body holds some bytes, once it is stored."""

    async def look() -> list[asyncpg.Record]:
        return await dead_letters(database_url, marker)

    return (await eventually(look, what=f"the dead letter {marker!r}", within_s=10.0))[0]


class Listener:
    """The messages of a queue of our own, in their order."""

    def __init__(self, queue: AbstractQueue) -> None:
        self.name = queue.name
        self._arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Keep a message."""
        await self._arrived.put(message)

    async def next(self) -> AbstractIncomingMessage:
        """Return the next message; raises TimeoutError when none comes."""
        async with asyncio.timeout(ARRIVAL_S):
            return await self._arrived.get()


@asynccontextmanager
async def listening(
    amqp_url: str, *, name: str | None = None, exchange: str | None = None, binding: str = "#"
) -> AsyncIterator[Listener]:
    """Consume a queue of our own, of a name if one is given, bound to an exchange if one is."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name, exclusive=True)
        if exchange is not None:
            await queue.bind(exchange, routing_key=binding)
        listener = Listener(queue)
        await queue.consume(listener.take, no_ack=True)
        yield listener


async def good_one_is_posted(doors: CheckedDoors, wallet: str, *, within_s: float = 8) -> None:
    """Check that a sound message, sent now, is posted within a bound."""
    key = uuid4().hex
    await doors.upstream.publish(requested(deposit(wallet, "1.00"), key=key), routing_key=wallet)
    assert (await ended(doors.api, key, within_s=within_s))["status"] == "COMPLETED"


class Octets(str):
    """Text that is written as octets that are no UTF-8, each of which is shown as four.

    AMQP's short strings are any octets.
    """

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return as many octets as characters."""
        del encoding, errors
        return b"\xff" * len(self)
