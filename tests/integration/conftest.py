"""What most folders work with: a virtual host and an empty database for each test, and clients."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from ops.stack import Stack, add_vhost, remove_vhost
from runtime import database
from runtime.broker import Channel, close, connect, open_channel
from runtime.publisher import Publisher
from runtime.topology import declare_topology
from tests.conftest import drop_database, named_database
from tests.integration.reconciler.serving import running


@pytest.fixture(scope="session")
def partitions() -> int:
    """How many queues of transactions there are; a folder that wants more says so."""
    return 1


@pytest.fixture(scope="session")
def broker_stack(stack: Stack) -> Stack:
    """Where virtual hosts are made; a folder that stops its broker has another one."""
    return stack


@pytest.fixture
async def broker_url(broker_stack: Stack, partitions: int) -> AsyncIterator[str]:
    """A fresh virtual host with the topology declared."""
    name = f"test_{uuid4().hex[:12]}"
    url = await asyncio.to_thread(add_vhost, broker_stack, name)
    await declare_topology(url, partitions=partitions)
    yield url
    await asyncio.to_thread(remove_vhost, broker_stack, name)


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


@pytest.fixture
async def empty_database_url(stack: Stack) -> AsyncIterator[str]:
    """A database without a single table."""
    name = f"test_{uuid4().hex[:12]}"
    admin = await database.connect(stack.postgres.url, name="test")
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    url = named_database(stack, name)
    yield url
    await drop_database(stack, url)
