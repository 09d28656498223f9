"""A virtual host with its topology for each test, and the reconciler's parts upon it."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from ops.stack import Stack, add_vhost, remove_vhost
from processor.reconciler.expiry import Expiry
from processor.reconciler.queue_depth import QueueDepth
from processor.reconciler.reconciler import LOOKUP_SESSION
from processor.reconciler.worklist import Worklist
from runtime.broker import Channel, close, connect, open_channel
from runtime.database import Pool, create_pool
from runtime.publisher import Publisher
from runtime.topology import declare_topology
from tests.integration.reconciler.serving import running

PARTITIONS = 2
NEVER = 0.0


@pytest.fixture
async def broker_url(stack: Stack) -> AsyncIterator[str]:
    """A fresh virtual host with two partitions."""
    name = f"test_{uuid4().hex[:12]}"
    url = await asyncio.to_thread(add_vhost, stack, name)
    await declare_topology(url, partitions=PARTITIONS)
    yield url
    await asyncio.to_thread(remove_vhost, stack, name)


@pytest.fixture
async def channel(broker_url: str) -> AsyncIterator[Channel]:
    """A channel to look into the queues by."""
    connection = await connect(broker_url, name="test")
    yield await open_channel(connection)
    await close(connection)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """The reconciler's pool."""
    pool = create_pool(
        database_url, name="test", size=4, statement_timeout_s=10, session=LOOKUP_SESSION
    )
    async with pool:
        yield pool


@pytest.fixture
async def publisher(broker_url: str) -> AsyncIterator[Publisher]:
    """A connected publisher."""
    publisher = Publisher(broker_url, name="test-publish")
    async with running(publisher):
        await publisher.wait_until_up()
        yield publisher


@pytest.fixture
async def depth(broker_url: str) -> AsyncIterator[QueueDepth]:
    """What knows how deep the queues are."""
    depth = QueueDepth(broker_url, partitions=PARTITIONS)
    async with running(depth):
        await depth.wait_until_up()
        yield depth


@pytest.fixture
def worklist(pool: Pool, publisher: Publisher, depth: QueueDepth) -> Worklist:
    """The worklist, with room for a thousand in flight."""
    return Worklist(
        pool=pool,
        publisher=publisher,
        depth=depth,
        partitions=PARTITIONS,
        in_flight_max=1000,
        expiry=Expiry(pool, after_s=NEVER),
    )
