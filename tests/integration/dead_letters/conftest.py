"""A virtual host and a database for each test, with what keeps and what replays dead letters."""

from collections.abc import AsyncIterator

import pytest

from dead_letters.operations import DeadLetters
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Pool, create_pool

PARTITIONS = 2


@pytest.fixture
def partitions() -> int:
    """How many partitions the virtual host has."""
    return PARTITIONS


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool whose statements give up soon."""
    async with create_pool(database_url, name="test", size=4, statement_timeout_s=1) as pool:
        yield pool


@pytest.fixture
def dead_letters(pool: Pool, publisher: Publisher) -> DeadLetters:
    """What operators act by."""
    return DeadLetters(pool=pool, publisher=publisher, partitions=PARTITIONS)
