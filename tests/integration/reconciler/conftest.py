"""A virtual host with its topology for each test, and the reconciler's parts upon it."""

from collections.abc import AsyncIterator

import pytest

from reconciler.retry_queue import QueueDepth, RetryQueue
from reconciler.schedule import LOOKUP_SESSION
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Pool, create_pool
from tests.integration.reconciler.parts import PARTITIONS, make_retry_queue
from tests.integration.reconciler.serving import running


@pytest.fixture
def partitions() -> int:
    """How many partitions the virtual host has."""
    return PARTITIONS


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """The reconciler's pool."""
    pool = create_pool(
        database_url, name="test", size=4, statement_timeout_s=10, session=LOOKUP_SESSION
    )
    async with pool:
        yield pool


@pytest.fixture
async def depth(broker_url: str) -> AsyncIterator[QueueDepth]:
    """What knows how deep the queues are."""
    depth = QueueDepth(broker_url, partitions=PARTITIONS)
    async with running(depth):
        await depth.wait_until_up()
        yield depth


@pytest.fixture
def retry_queue(pool: Pool, publisher: Publisher, depth: QueueDepth) -> RetryQueue:
    """The retry queue, with room for a thousand in flight, from which nothing expires."""
    return make_retry_queue(pool, publisher, depth)
