"""A virtual host and a database for each test, and lines to both that may fail."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from yarl import URL

from runtime.amqp.connection import Channel, close, connect, open_channel
from runtime.amqp.publisher import Publisher
from tests.integration.processor.failures.line import Line, line_to
from tests.integration.processor.failures.workshop import SHOP
from tools.stack import Stack, add_upstream_user


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
async def shop(stack: Stack, broker_url: str) -> AsyncIterator[Channel]:
    """A channel of an upstream system that may publish transactions and nothing else."""
    vhost = URL(broker_url).path[1:]
    url = await asyncio.to_thread(add_upstream_user, stack, SHOP, "shop-secret", vhost=vhost)
    connection = await connect(url, name="test-shop")
    yield await open_channel(connection)
    await close(connection)
