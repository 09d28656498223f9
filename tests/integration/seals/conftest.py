"""The reconciler's pool, a directory of keys, and books that are sealed."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.schedule import LOOKUP_SESSION
from runtime.postgres.pool import Pool, create_pool
from verification.seal_keys import SealKeys


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """The reconciler's pool."""
    pool = create_pool(
        database_url, name="test", size=4, statement_timeout_s=10, session=LOOKUP_SESSION
    )
    async with pool:
        yield pool


@pytest.fixture
def keys(tmp_path: Path) -> SealKeys:
    """A directory with a first key."""
    keys = SealKeys(tmp_path / "seal-keys")
    keys.rotate(datetime.now(tz=UTC))
    return keys
