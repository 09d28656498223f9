"""A virtual host and a database for each test, with what keeps and what replays dead letters."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from ops.stack import Stack, add_vhost, remove_vhost
from runtime.broker import Channel, close, connect, open_channel
from runtime.database import Pool, create_pool
from runtime.dead_letters.operations import DeadLetters
from runtime.publisher import Publisher
from runtime.topology import declare_topology
from tests.integration.reconciler.serving import running

PARTITIONS = 2


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
    """A channel to publish and to look into the queues by."""
    connection = await connect(broker_url, name="test")
    yield await open_channel(connection)
    await close(connection)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool whose statements give up soon."""
    async with create_pool(database_url, name="test", size=4, statement_timeout_s=1) as pool:
        yield pool


@pytest.fixture
async def publisher(broker_url: str) -> AsyncIterator[Publisher]:
    """A connected publisher."""
    publisher = Publisher(broker_url, name="test-publish")
    async with running(publisher):
        await publisher.wait_until_up()
        yield publisher


@pytest.fixture
def dead_letters(pool: Pool, publisher: Publisher) -> DeadLetters:
    """What operators act by."""
    return DeadLetters(pool=pool, publisher=publisher, partitions=PARTITIONS)
