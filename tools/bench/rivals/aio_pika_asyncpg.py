"""One commit a message with aio-pika and asyncpg, as their documentation shows it.

`message.process()` acks behind the commit, `prefetch_count` is the concurrency: both are what
aio-pika's own examples do. Run: `python -m tools.bench.rivals.aio_pika_asyncpg`, with DATABASE_URL,
AMQP_URL, QUEUE and PREFETCH in the environment.
"""

import asyncio
import os

import aio_pika
import asyncpg
import orjson
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from tools.bench.rivals.posting import post_with_asyncpg


async def main() -> None:
    """Consume until killed."""
    prefetch = int(os.environ["PREFETCH"])
    pool = await asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=prefetch, max_size=prefetch
    )

    async def on_message(message: AbstractIncomingMessage) -> None:
        async with message.process():
            transfer = orjson.loads(message.body)
            async with pool.acquire() as connection, connection.transaction():
                await post_with_asyncpg(connection, transfer)

    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=prefetch)
    queue = await channel.get_queue(os.environ["QUEUE"])
    await queue.consume(on_message)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
