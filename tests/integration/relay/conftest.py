"""Servers of these tests' own, since a broker is killed and blocked."""

from collections.abc import AsyncIterator, Iterator

import pytest

from ops.stack import Stack
from runtime.database import Pool
from tests.conftest import private_stack
from tests.integration.processor.books import open_pool


@pytest.fixture(scope="package")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Three servers that nobody else uses."""
    with private_stack(tmp_path_factory.mktemp("relay") / ".local") as started:
        yield started


@pytest.fixture(scope="package")
def broker_stack(own_stack: Stack) -> Stack:
    """Those servers: their virtual hosts are this folder's."""
    return own_stack


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """The processor's pool."""
    async with open_pool(database_url) as pool:
        yield pool
