"""What keeps and what replays dead letters, with two queues of transactions."""

from collections.abc import AsyncIterator

import pytest

from runtime.database import Pool, create_pool
from runtime.dead_letters.operations import DeadLetters
from runtime.publisher import Publisher

PARTITIONS = 2


@pytest.fixture(scope="session")
def partitions() -> int:
    """Two queues of transactions."""
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
