"""Receive all events in bundles with aio-pika: a queue's name, a file of SQLite, and how many.

ACKLEDGER_EVENTS_AMQP_URL is of a user that may read `ackledger.events.bundles`.
"""

import asyncio
import json
import os
import sqlite3
import sys

import aio_pika

# RabbitMQ 4 drops what it has delivered more than 20 times, unless another limit is set.
ARGUMENTS = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}


def keep(books: sqlite3.Connection, bundle: bytes) -> list[dict[str, object]]:
    """Take each event that is new, all in one commit; return them in their order."""
    new = []
    with books:
        for line in bundle.split(b"\n"):
            event = json.loads(line)
            row = (event["event_id"], event["event_type"], event["id"])
            # What the event changes here is written in this commit, too.
            if books.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?)", row).rowcount:
                new.append(event)
    return new


async def main(queue_name: str, file: str, count: int) -> None:
    """Return after so many new events."""
    books = sqlite3.connect(file)
    books.execute("CREATE TABLE IF NOT EXISTS events (event_id PRIMARY KEY, event_type, id)")
    url = os.environ["ACKLEDGER_EVENTS_AMQP_URL"]
    async with await aio_pika.connect_robust(url) as connection:
        channel = await connection.channel()
        # A bundle is one message: up to 8 times 64 events wait in memory.
        await channel.set_qos(prefetch_count=8)
        queue = await channel.declare_queue(queue_name, durable=True, arguments=ARGUMENTS)
        await queue.bind("ackledger.events.bundles")
        async with queue.iterator() as bundles:
            async for bundle in bundles:
                new = keep(books, bundle.body)
                await bundle.ack()
                for event in new:
                    print(event["event_type"], event["id"])
                count -= len(new)
                if count <= 0:
                    return


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
