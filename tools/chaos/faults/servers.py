"""Servers that die, stand still, or forget: PostgreSQL, RabbitMQ and Redis as a whole."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import redis.asyncio

from tools.chaos.faults.fault import BROKER_BACK_S, POSTGRES_BACK_S, SceneFault, Strike
from tools.chaos.scene import Scene, in_thread
from tools.stack import Service, Stack

_REDIS_S: Final = 3.0


def _killed(service_of: Callable[[Stack], Service]) -> Strike:
    return _away(service_of, lambda service: service.kill(), lambda service: service.start())


def frozen(service_of: Callable[[Stack], Service]) -> Strike:
    """Return what lets a server stand still."""
    return _away(service_of, lambda service: service.pause(), lambda service: service.resume())


def _away(
    service_of: Callable[[Stack], Service],
    leave: Callable[[Service], None],
    come_back: Callable[[Service], None],
) -> Strike:
    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        service = service_of(scene.stack)
        await in_thread(leave, service)
        try:
            yield
        finally:
            await in_thread(come_back, service)

    return strike


@asynccontextmanager
async def _redis_flushed(scene: Scene) -> AsyncIterator[None]:
    client = redis.asyncio.Redis.from_url(scene.stack.redis.url, socket_timeout=_REDIS_S)
    async with client:
        await client.flushall()
    yield


FAULTS: Final = (
    SceneFault(
        name="postgres-killed",
        claim="503 while it is away, nothing half done; what was accepted is finished",
        strike=_killed(lambda stack: stack.postgres),
        recovery_bound_s=POSTGRES_BACK_S,
    ),
    SceneFault(
        name="postgres-frozen",
        claim="calls end by their bounds, and of unknown outcome; what was accepted is finished",
        strike=frozen(lambda stack: stack.postgres),
        lasting_s=3.0,
        recovery_bound_s=2 * POSTGRES_BACK_S,
    ),
    SceneFault(
        name="broker-killed",
        claim="202 as before; transactions wait in PostgreSQL, and confirmed messages on its disk",
        strike=_killed(lambda stack: stack.rabbitmq),
        recovery_bound_s=BROKER_BACK_S,
        moves_bindings=True,
    ),
    SceneFault(
        name="broker-frozen",
        claim="a 202 waits for no confirm longer than its bound",
        strike=frozen(lambda stack: stack.rabbitmq),
        lasting_s=4.0,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="redis-killed",
        claim="each process counts for itself; no answer about money changes",
        strike=_killed(lambda stack: stack.redis),
        lasting_s=3.0,
    ),
    SceneFault(
        name="redis-flushed",
        claim="counters start anew; no answer about money changes",
        strike=_redis_flushed,
    ),
)
