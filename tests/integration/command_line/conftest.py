"""A directory in which no stack runs, and servers that know nothing of Ackledger yet."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from ops.stack import Stack, add_vhost, remove_vhost
from runtime.database import connect
from tests.conftest import drop_database, named_database


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where nothing runs."""
    return tmp_path / ".local"


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
def empty_vhost_url(stack: Stack) -> Iterator[str]:
    """A virtual host without a single queue."""
    name = f"test_{uuid4().hex[:12]}"
    yield add_vhost(stack, name)
    remove_vhost(stack, name)


@pytest.fixture
def empty_servers(empty_database_url: str, empty_vhost_url: str) -> dict[str, str]:
    """The variables that name servers which were never migrated."""
    return {"DATABASE_URL": empty_database_url, "AMQP_URL": empty_vhost_url}
