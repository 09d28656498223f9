"""A pool of ours: nobody waits for a connection without an end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from runtime.postgres.pool import ACQUIRE_TIMEOUT_S, UNREACHABLE, Pool, create_pool

pytestmark = pytest.mark.long

_USES: Final[dict[str, Callable[[Pool], Awaitable[object]]]] = {
    "fetch": lambda pool: pool.fetch("SELECT 1"),
    "fetchrow": lambda pool: pool.fetchrow("SELECT 1"),
    "fetchval": lambda pool: pool.fetchval("SELECT 1"),
    "execute": lambda pool: pool.execute("SELECT 1"),
    "acquire": lambda pool: _acquired(pool, None),
}


async def _acquired(pool: Pool, timeout_s: float | None) -> None:
    async with pool.acquire(timeout=timeout_s):
        raise AssertionError("there is one connection, and it is taken")


async def test_whoever_gets_no_connection_is_told_that_the_database_cannot_be_reached(
    database_url: str,
) -> None:
    async with create_pool(database_url, name="test", size=1, statement_timeout_s=60) as pool:
        async with pool.acquire():
            async with asyncio.timeout(ACQUIRE_TIMEOUT_S + 5):
                errors = await asyncio.gather(
                    *(use(pool) for use in _USES.values()), return_exceptions=True
                )
            with pytest.raises(TimeoutError):
                await _acquired(pool, 0.01)

        assert [type(error) for error in errors] == [TimeoutError] * len(_USES)
        assert TimeoutError in UNREACHABLE
        # What gave up has not lost the pool its connection.
        assert await pool.fetchval("SELECT 1") == 1
