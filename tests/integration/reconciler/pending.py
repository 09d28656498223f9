"""PENDING transactions, recorded as the ingress records them, and the queues they go to."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

from aiormq.abc import DeliveredMessage

from contracts.identifiers import external_wallet_id
from contracts.messages import RECORDED_TYPE, Recorded, decode_message
from contracts.requests.transaction import fingerprint_of_json
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import PERSISTENT
from runtime.amqp.topology import check_queue
from runtime.postgres.pool import Connection
from tests.support import PATIENCE_S

_RECORD = """
SELECT id FROM record_transactions('http', $1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $9, $9)
ORDER BY id
"""


async def record_pending(
    connection: Connection,
    count: int = 1,
    *,
    kind: str = "transfer",
    wallet_ids: Sequence[UUID] = (),
) -> list[UUID]:
    """Record transactions and return their ids in accepted order; `wallet_ids` order them."""
    external = external_wallet_id("EUR")
    ordering = list(wallet_ids) or [uuid4() for _ in range(count)]
    others = [uuid4() if kind == "transfer" else external for _ in ordering]
    sources, destinations = (others, ordering) if kind == "deposit" else (ordering, others)
    rows = await connection.fetch(
        _RECORD,
        ["test"] * len(ordering),
        [uuid4().hex for _ in ordering],
        [fingerprint_of_json(number) for number in range(len(ordering))],
        [kind] * len(ordering),
        sources,
        destinations,
        [100] * len(ordering),
        ["EUR"] * len(ordering),
        [None] * len(ordering),
    )
    return [row["id"] for row in rows]


async def taken_ids(channel: Channel, queue: str) -> list[list[UUID]]:
    """Take every message of a queue, and return the ids of each.

    By consuming: a queue with a single active consumer refuses basic.get.
    """
    wanted = await check_queue(channel, queue)
    taken: list[DeliveredMessage] = []
    is_all_there = asyncio.Event()

    async def take(message: DeliveredMessage) -> None:
        taken.append(message)
        if len(taken) == wanted:
            is_all_there.set()

    if wanted == 0:
        return []
    consuming = await channel.basic_consume(queue, take, no_ack=True)
    async with asyncio.timeout(PATIENCE_S):
        await is_all_there.wait()
    await channel.basic_cancel(str(consuming.consumer_tag))
    return [_ids_in(message) for message in taken]


def _ids_in(message: DeliveredMessage) -> list[UUID]:
    properties = message.header.properties
    assert properties.message_type == RECORDED_TYPE
    assert properties.delivery_mode == PERSISTENT
    content = decode_message(
        message.body,
        message_type=properties.message_type,
        content_type=properties.content_type,
        user_id=properties.user_id,
    )
    assert isinstance(content, Recorded)
    return list(content.transaction_ids)
