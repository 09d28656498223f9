"""A post office for each test, and the notifier's pool."""

from collections.abc import AsyncIterator

import pytest

from runtime.postgres.pool import KEYED_SESSION, Pool, create_pool
from tests.integration.notifier.postbox import Postbox


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """The notifier's pool."""
    pool = create_pool(
        database_url, name="notifier", size=4, statement_timeout_s=10, session=KEYED_SESSION
    )
    async with pool:
        yield pool


@pytest.fixture
async def postbox() -> AsyncIterator[Postbox]:
    """An SMTP server that takes everything."""
    async with Postbox() as open_box:
        yield open_box
