"""A processor's parts in the test's own process, on servers that the test may take away."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import orjson
from pamqp.commands import Basic
from prometheus_client import REGISTRY

from contracts.messages import RECORDED_TYPE, REQUESTED_TYPE, encode_recorded
from contracts.topology import TRANSACTIONS_EXCHANGE, partition_queue
from processor.deciding import WalletCache
from processor.intake import PartitionConsumer, partition_consumer
from processor.pipeline import HELD_MAX_S, Pipeline
from processor.poster import Poster
from processor.replies import Forwarder, Replies
from processor.retry import Circuit
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Outgoing, Publisher
from runtime.amqp.topology import check_queue
from runtime.amqp.watchdog import QUIET_MAX_S
from runtime.postgres.pool import KEYED_SESSION, Connection, create_pool
from runtime.service.fault_points import FaultPoint, FaultPoints
from tests.integration.processor.books import add_wallets, record, transfer_command
from tests.integration.reconciler.serving import running
from tests.support import eventually, requested, transfer

QUEUE = partition_queue(0)
SHOP = "shop"
"""An upstream system's user."""
PREFETCH = 64
BATCH_SIZE = 32
DRAIN_S = 15.0


@dataclass(frozen=True)
class Workshop:
    """What a test looks at while it processes."""

    circuit: Circuit
    consumer: PartitionConsumer
    partition: Pipeline


class Signalling(FaultPoints):
    """Tells that a point was reached."""

    def __init__(self, point: FaultPoint) -> None:
        self._point = point
        self.reached = asyncio.Event()

    async def reach(self, point: FaultPoint) -> None:
        """Set the signal."""
        if point is self._point:
            self.reached.set()


@asynccontextmanager
async def processing(
    database_url: str,
    broker_url: str,
    *,
    statement_timeout_s: float = 5.0,
    lock_timeout_s: float = 2.0,
    fault_points: FaultPoints | None = None,
    is_killed: bool = False,
    quiet_max_s: float = QUIET_MAX_S,
    held_max_s: float = HELD_MAX_S,
    prefetch: int = PREFETCH,
    publisher_url: str | None = None,
) -> AsyncIterator[Workshop]:
    """Process the one partition, put together as the process does it.

    At the end it drains, as on SIGTERM, or ends where it stands if it `is_killed`.
    """
    session = {**KEYED_SESSION, "lock_timeout": str(int(lock_timeout_s * 1000))}
    pool = create_pool(
        database_url, name="test", size=4, statement_timeout_s=statement_timeout_s, session=session
    )
    await pool
    publisher = Publisher(publisher_url or broker_url, name="processor-publish")
    consumer = partition_consumer(broker_url, QUEUE, prefetch=prefetch, quiet_max_s=quiet_max_s)
    circuit = Circuit(pool)
    replies = Replies(publisher=publisher, pool=pool, queue=QUEUE)
    partition = Pipeline(
        consumer=consumer,
        poster=Poster(pool, wallet_cache=WalletCache(), fault_points=fault_points),
        circuit=circuit,
        replies=replies,
        forwarder=Forwarder(publisher=publisher, replies=replies),
        posted=asyncio.Event(),
        batch_size=BATCH_SIZE,
        held_max_s=held_max_s,
        fault_points=fault_points,
    )
    async with AsyncExitStack() as loops:
        loops.callback(pool.terminate)
        for loop in (publisher, circuit, consumer, partition):
            await loops.enter_async_context(running(loop))
        yield Workshop(circuit, consumer, partition)
        if not is_killed:
            async with asyncio.timeout(DRAIN_S):
                await partition.drain()


@dataclass(frozen=True)
class Transfers:
    """Recorded transfers of one minor unit each, in order, between two wallets."""

    source: UUID
    destination: UUID
    ids: list[UUID]


async def recorded_transfers(database: Connection, count: int) -> Transfers:
    """Record transfers between two new wallets."""
    source, destination = await add_wallets(database, 2, balance=1_000)
    commands = [transfer_command(uuid4().hex, source, destination, 1) for _ in range(count)]
    return Transfers(source, destination, await record(database, commands))


async def announce(publisher: Publisher, ids: Sequence[UUID]) -> None:
    """Ask for the posting of recorded transactions, as the ingress does."""
    message = Outgoing(
        exchange="", routing_key=QUEUE, body=encode_recorded(ids), type=RECORDED_TYPE
    )
    await publisher.publish(message, timeout_s=5)


async def request(
    shop: Channel,
    wallets: list[UUID],
    *,
    reply_to: str,
    key: str,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Publish a transfer of one minor unit between two wallets, as an upstream system does."""
    transaction = transfer(str(wallets[0]), str(wallets[1]), "0.01")
    body = requested({**transaction, "metadata": metadata or {}}, key=key)
    properties = Basic.Properties(
        content_type="application/json",
        message_type=REQUESTED_TYPE,
        user_id=SHOP,
        reply_to=reply_to,
        correlation_id=key,
        delivery_mode=2,
    )
    await shop.basic_publish(
        orjson.dumps(body),
        exchange=TRANSACTIONS_EXCHANGE,
        routing_key=str(wallets[0]),
        properties=properties,
    )


async def completed(database: Connection, ids: Sequence[UUID]) -> int:
    """Return how many of these are COMPLETED."""
    count: int = await database.fetchval(
        "SELECT count(*) FROM transactions WHERE id = ANY ($1) AND status = 'COMPLETED'", ids
    )
    return count


async def all_completed(
    database: Connection, ids: Sequence[UUID], *, within_s: float = 20.0
) -> None:
    """Return when all of these are COMPLETED."""

    async def look() -> bool:
        return await completed(database, ids) == len(ids)

    await eventually(look, what=f"{len(ids)} COMPLETED", within_s=within_s)


async def post_one(database: Connection, publisher: Publisher, transaction_id: UUID) -> None:
    """Have one transaction posted, and return behind the ack of its message."""
    before = metric("ackledger_processor_batches_total")
    await announce(publisher, [transaction_id])

    async def look() -> bool:
        return metric("ackledger_processor_batches_total") > before

    await eventually(look, what="an acked batch")
    assert await completed(database, [transaction_id]) == 1


async def assert_posted_once(database: Connection, transfers: Transfers) -> None:
    """Check that each transfer moved its unit, and moved it once."""
    count = len(transfers.ids)
    assert await completed(database, transfers.ids) == count
    rows = await database.fetch(
        "SELECT id, balance FROM wallets WHERE id = ANY ($1)",
        [transfers.source, transfers.destination],
    )
    balances = {row["id"]: row["balance"] for row in rows}
    assert balances == {transfers.source: 1_000 - count, transfers.destination: 1_000 + count}
    assert await database.fetchval("SELECT count(*) FROM entries") == 2 * count
    posted = await database.fetch(
        "SELECT transaction_id FROM entries WHERE wallet_id = $1 ORDER BY sequence",
        transfers.source,
    )
    assert [row["transaction_id"] for row in posted] == transfers.ids


async def nothing_unsettled(channel: Channel) -> None:
    """Return when the queue is empty once its consumer is gone: all was acked."""

    async def look() -> bool:
        return await check_queue(channel, QUEUE) == 0

    await eventually(look, what="an empty queue")


async def circuit_open(workshop: Workshop, *, within_s: float = 10.0) -> None:
    """Return when the circuit is open."""

    async def look() -> bool:
        return workshop.circuit.is_open

    await eventually(look, what="an open circuit", within_s=within_s)


def metric(name: str, **labels: str) -> float:
    """Return a metric's value in this process."""
    return REGISTRY.get_sample_value(name, labels) or 0.0
