"""A Redis to count in, under keys of each test's own."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from ingress.limits.limiter import connect_redis
from tools.stack import Stack


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    """The worker's Redis, and time for its answers on a busy machine."""
    client = connect_redis(stack.redis.url, timeout_s=10)
    yield client
    await client.aclose()


@pytest.fixture
async def no_redis() -> AsyncIterator[Redis]:
    """One that nobody serves."""
    client = connect_redis("redis://127.0.0.1:1/0")
    yield client
    await client.aclose()
