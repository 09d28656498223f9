"""One commit a message with FastStream and asyncpg, as FastStream's documentation shows it.

Run, with DATABASE_URL, AMQP_URL, QUEUE and PREFETCH in the environment:
`python -m tools.bench.rivals.faststream_asyncpg`
"""

import os
from typing import Any

import asyncpg
import uvloop
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from tools.bench.rivals.posting import post_with_asyncpg

PREFETCH = int(os.environ.get("PREFETCH", "16"))

broker = RabbitBroker(os.environ.get("AMQP_URL", ""), logger=None)
app = FastStream(broker, logger=None)
pools: list["asyncpg.Pool[asyncpg.Record]"] = []


@app.on_startup
async def connect() -> None:
    """Open the pool before the first message comes."""
    pool = await asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=PREFETCH, max_size=PREFETCH
    )
    pools.append(pool)


@broker.subscriber(
    RabbitQueue(
        os.environ.get("QUEUE", "rival"), queue_type=QueueType.QUORUM, durable=True, declare=False
    ),
    channel=Channel(prefetch_count=PREFETCH),
    ack_policy=AckPolicy.NACK_ON_ERROR,
)
async def transfer(message: dict[str, Any]) -> None:
    """Post one transfer; FastStream acks when this returns."""
    async with pools[0].acquire() as connection, connection.transaction():
        await post_with_asyncpg(connection, message)


if __name__ == "__main__":
    uvloop.run(app.run())
