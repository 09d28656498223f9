"""A virtual host with its topology for each test and the ways into it; a pool; whole systems."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from runtime.amqp.connection import Channel, close, connect, open_channel
from runtime.amqp.publisher import Publisher
from runtime.amqp.topology import declare_topology
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.pool import connect as connect_to_database
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.integration.processor.books import open_pool
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


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """The processor's pool; packages of other processes have theirs."""
    async with open_pool(database_url) as pool:
        yield pool


@pytest.fixture(scope="module")
async def own_doors(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A system for one module alone: what stops in it fails no other module's tests."""
    async with open_doors(stack, template, tmp_path_factory.mktemp("system")) as opened:
        yield opened


@pytest.fixture(scope="module")
async def books(doors: CheckedDoors) -> AsyncIterator[Connection]:
    """The database of a system, to look behind its answers and to change what no door does."""
    connection = await connect_to_database(doors.database_url, name="test")
    yield connection
    await connection.close()
