"""A directory in which no stack runs, and servers that know nothing of Ackledger yet."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tools.stack import Stack, add_vhost, remove_vhost


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where nothing runs."""
    return tmp_path / ".local"


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
