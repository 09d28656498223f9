"""A database that knows nothing of Ackledger yet, and a broker that knows all of it."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from ops.stack import Stack, add_vhost, remove_vhost
from runtime.database import connect
from runtime.topology import declare_topology
from tests.conftest import drop_database, named_database
from tests.integration.reconciler.conftest import PARTITIONS


@pytest.fixture
async def empty_database_url(stack: Stack) -> AsyncIterator[str]:
    """A database without a single table."""
    name = f"test_{uuid4().hex[:12]}"
    admin = await connect(stack.postgres.url, name="test")
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    url = named_database(stack, name)
    yield url
    await drop_database(stack, url)


@pytest.fixture
async def broker_url(stack: Stack) -> AsyncIterator[str]:
    """A fresh virtual host with two partitions."""
    name = f"test_{uuid4().hex[:12]}"
    url = await asyncio.to_thread(add_vhost, stack, name)
    await declare_topology(url, partitions=PARTITIONS)
    yield url
    await asyncio.to_thread(remove_vhost, stack, name)
