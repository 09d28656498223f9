"""A virtual host with its topology for each test, and the ways into it."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from runtime.amqp.connection import Channel, close, connect, open_channel
from runtime.amqp.publisher import Publisher
from runtime.amqp.topology import declare_topology
from tests.integration.reconciler.serving import running
from tools.stack import Stack, add_vhost, remove_vhost


@pytest.fixture
def partitions() -> int:
    """How many partitions the virtual host has; packages may have more."""
    return 1


@pytest.fixture
def broker(stack: Stack) -> Stack:
    """Whose broker it is; packages that kill theirs have one of their own."""
    return stack


@pytest.fixture
async def broker_url(broker: Stack, partitions: int) -> AsyncIterator[str]:
    """A fresh virtual host with the topology declared."""
    name = f"test_{uuid4().hex[:12]}"
    url = await asyncio.to_thread(add_vhost, broker, name)
    await declare_topology(url, partitions=partitions)
    yield url
    await asyncio.to_thread(remove_vhost, broker, name)


@pytest.fixture
async def channel(broker_url: str) -> AsyncIterator[Channel]:
    """A channel to publish and to look into the queues by."""
    connection = await connect(broker_url, name="test")
    yield await open_channel(connection)
    await close(connection)


@pytest.fixture
async def publisher(broker_url: str) -> AsyncIterator[Publisher]:
    """A connected publisher of our own user."""
    publisher = Publisher(broker_url, name="test-publish")
    async with running(publisher):
        await publisher.wait_until_up()
        yield publisher
