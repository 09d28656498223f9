"""The reconciler's parts, with two queues of transactions."""

from collections.abc import AsyncIterator

import pytest

from processor.reconciler.expiry import Expiry
from processor.reconciler.queue_depth import QueueDepth
from processor.reconciler.reconciler import LOOKUP_SESSION
from processor.reconciler.worklist import Worklist
from runtime.database import Pool, create_pool
from runtime.publisher import Publisher
from tests.integration.reconciler.serving import running

PARTITIONS = 2
NEVER = 0.0


@pytest.fixture(scope="session")
def partitions() -> int:
    """Two queues of transactions."""
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
def worklist(pool: Pool, publisher: Publisher, depth: QueueDepth) -> Worklist:
    """The worklist, with room for a thousand in flight."""
    return Worklist(
        pool=pool,
        publisher=publisher,
        depth=depth,
        partitions=PARTITIONS,
        in_flight_max=1000,
        expiry=Expiry(pool, after_s=NEVER),
    )
