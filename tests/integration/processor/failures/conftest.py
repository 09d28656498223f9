"""A virtual host and a database for each test, and lines to both that may fail."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from yarl import URL

from ops.stack import Stack, add_upstream_user, add_vhost, remove_vhost
from runtime.broker import Channel, close, connect, open_channel
from runtime.publisher import Publisher
from runtime.topology import declare_topology
from tests.integration.processor.failures.line import Line, line_to
from tests.integration.processor.failures.workshop import SHOP
from tests.integration.reconciler.serving import running


@pytest.fixture
async def broker_url(stack: Stack) -> AsyncIterator[str]:
    """A fresh virtual host with one partition."""
    name = f"test_{uuid4().hex[:12]}"
    url = await asyncio.to_thread(add_vhost, stack, name)
    await declare_topology(url, partitions=1)
    yield url
    await asyncio.to_thread(remove_vhost, stack, name)


@dataclass(frozen=True)
class Site:
    """Where a test works: a database and a virtual host, direct and by lines, and a publisher."""

    database_url: str
    database_line: Line
    broker_url: str
    broker_line: Line
    publisher: Publisher
    channel: Channel


@pytest.fixture
async def site(
    database_url: str, broker_url: str, publisher: Publisher, channel: Channel
) -> AsyncIterator[Site]:
    """Everything in one."""
    async with line_to(database_url) as database_line, line_to(broker_url) as broker_line:
        yield Site(database_url, database_line, broker_url, broker_line, publisher, channel)


@pytest.fixture
async def channel(broker_url: str) -> AsyncIterator[Channel]:
    """A channel to look into the queues by."""
    connection = await connect(broker_url, name="test")
    yield await open_channel(connection)
    await close(connection)


@pytest.fixture
async def shop(stack: Stack, broker_url: str) -> AsyncIterator[Channel]:
    """A channel of an upstream system that may publish transactions and nothing else."""
    vhost = URL(broker_url).path[1:]
    url = await asyncio.to_thread(add_upstream_user, stack, SHOP, "shop-secret", vhost=vhost)
    connection = await connect(url, name="test-shop")
    yield await open_channel(connection)
    await close(connection)


@pytest.fixture
async def publisher(broker_url: str) -> AsyncIterator[Publisher]:
    """A connected publisher of our own user."""
    publisher = Publisher(broker_url, name="test-publish")
    async with running(publisher):
        await publisher.wait_until_up()
        yield publisher
