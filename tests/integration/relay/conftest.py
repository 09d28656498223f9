"""Servers of these tests' own, since a broker is killed and blocked; a virtual host for each."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from ops.stack import Stack, add_vhost, remove_vhost
from runtime.broker import Channel, close, connect, open_channel
from runtime.database import Pool
from runtime.publisher import Publisher
from runtime.topology import declare_topology
from tests.conftest import private_stack
from tests.integration.processor.books import open_pool
from tests.integration.reconciler.serving import running


@pytest.fixture(scope="package")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Three servers that nobody else uses."""
    with private_stack(tmp_path_factory.mktemp("relay") / ".local") as started:
        yield started


@pytest.fixture
async def broker_url(own_stack: Stack) -> AsyncIterator[str]:
    """A fresh virtual host with the topology declared."""
    name = f"test_{uuid4().hex[:12]}"
    url = await asyncio.to_thread(add_vhost, own_stack, name)
    await declare_topology(url, partitions=1)
    yield url
    await asyncio.to_thread(remove_vhost, own_stack, name)


@pytest.fixture
async def channel(broker_url: str) -> AsyncIterator[Channel]:
    """A channel to make queues and look into them by."""
    connection = await connect(broker_url, name="test")
    yield await open_channel(connection)
    await close(connection)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """The processor's pool."""
    async with open_pool(database_url) as pool:
        yield pool


@pytest.fixture
async def publisher(broker_url: str) -> AsyncIterator[Publisher]:
    """A connected publisher."""
    publisher = Publisher(broker_url, name="test-publish")
    async with running(publisher):
        await publisher.wait_until_up()
        yield publisher
