"""What happens inside a broker that runs: alarms, time-outs, queues and bindings that go."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from urllib.parse import quote

from contracts.topology import DEAD_LETTERS, TRANSACTIONS_EXCHANGE, partition_queue
from runtime.amqp.topology import declare_topology
from runtime.amqp.watchdog import QUIET_MAX_S
from tools.chaos.faults.fault import BROKER_BACK_S, SceneFault, Strike
from tools.chaos.faults.messages import await_all_before_now, publish_poison
from tools.chaos.faults.network import trouble_on
from tools.chaos.faults.servers import frozen
from tools.chaos.proxy import Proxy
from tools.chaos.scene import NotStruckError, Scene, in_thread
from tools.chaos.ways import Server, Way, ways_of
from tools.stack.rabbitmq import PrivateRabbitMQ
from tools.system import Role

_WATERMARK: Final = "set_vm_memory_high_watermark"
_WATERMARK_DEFAULT: Final = "0.4"
_DELETED: Final = quote(partition_queue(0))
_CANCELLING_S: Final = 0.5
"""Enough for the broker to cancel the consumers before there is a queue of that name again."""
_POISON: Final = 20
_FLOWING_S: Final = 0.3
"""Enough to take a batch, and far less than the backlog needs."""
_OUTAGE_S: Final = 1.2
"""The circuit opens and is closed again before the burial that waits is over."""

# Seconds instead of half an hour; it is looked at once a second instead of once a minute.
_SET: Final = (
    "application:set_env(rabbit, consumer_timeout, {timeout_ms}), "
    "application:set_env(rabbit, channel_tick_interval, {tick_ms})."
)
_IMPATIENT: Final = _SET.format(timeout_ms=3_000, tick_ms=1_000)
_PATIENT: Final = _SET.format(timeout_ms=1_800_000, tick_ms=60_000)


def _private(scene: Scene) -> PrivateRabbitMQ:
    broker = scene.stack.rabbitmq
    if not isinstance(broker, PrivateRabbitMQ):
        raise NotStruckError("the broker is not ours to control")
    return broker


@asynccontextmanager
async def _memory_alarm(scene: Scene) -> AsyncIterator[None]:
    broker = _private(scene)
    await in_thread(broker.control, _WATERMARK, "absolute", "1")
    try:
        yield
    finally:
        await in_thread(broker.control, _WATERMARK, _WATERMARK_DEFAULT)


@asynccontextmanager
async def _blocked_in_an_outage(scene: Scene) -> AsyncIterator[None]:
    """Have batches wait for a burial that cannot be published, and lose the database meanwhile.

    First a backlog with poison in it gathers; then publishers are blocked, the backlog flows, and
    the batch after the one whose poison waits finds no database for a moment.
    """
    ways = ways_of(Role.PROCESSOR, Server.POSTGRES)
    async with AsyncExitStack() as blocked:
        with scene.on(ways, Proxy.silent):
            await publish_poison(scene, _POISON)
            await blocked.enter_async_context(_memory_alarm(scene))
        await asyncio.sleep(_FLOWING_S)
        with scene.on(ways, Proxy.refusing):
            await asyncio.sleep(_OUTAGE_S)
        yield


def _queue_deleted(*, declared_after_s: float | None) -> Strike:
    """Delete a queue with the ingress's announcements in it.

    What upstream systems had confirmed and nobody had recorded would really be lost with it; so
    their way is closed until all of that is posted, as an operator would drain before deleting.
    """

    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        with scene.refused(Way.UPSTREAM_RABBITMQ):
            began_s = time.monotonic()
            await await_all_before_now(scene)
            await in_thread(scene.management.call, "DELETE", f"/api/queues/%2F/{_DELETED}")
            if declared_after_s is not None:
                await asyncio.sleep(declared_after_s)
                await _declare(scene)
            scene.losses.append((began_s, time.monotonic()))
        try:
            yield
        finally:
            await _declare(scene)

    return strike


def _unbound(exchange: str, key: str, queues_of: Callable[[Scene], Sequence[str]]) -> Strike:
    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        for queue in queues_of(scene):
            binding = f"/api/bindings/%2F/e/{quote(exchange)}/q/{quote(queue)}/{key}"
            await in_thread(scene.management.call, "DELETE", binding)
        try:
            yield
        finally:
            await _declare(scene)

    return strike


def _partitions(scene: Scene) -> Sequence[str]:
    return [partition_queue(number) for number in range(scene.shape.partitions)]


async def _declare(scene: Scene) -> None:
    """What `ackledger migrate` does to the broker."""
    await declare_topology(
        scene.stack.rabbitmq.url,
        partitions=scene.shape.partitions,
        events=scene.system.event_queues,
    )


def _consumer_timeout(held: Strike) -> Strike:
    """Give the broker little patience for unacked deliveries while PostgreSQL holds a batch.

    A channel takes the time-out that is set when it is opened, so processors connect anew.
    """

    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        broker = _private(scene)
        await in_thread(broker.control, "eval", _IMPATIENT)
        _reconnect(scene)
        try:
            async with held(scene):
                yield
        finally:
            await in_thread(broker.control, "eval", _PATIENT)
            _reconnect(scene)

    return strike


def _reconnect(scene: Scene) -> None:
    for way in ways_of(Role.PROCESSOR, Server.RABBITMQ):
        scene.proxies[way].cut()


@asynccontextmanager
async def _connections_closed(scene: Scene) -> AsyncIterator[None]:
    connections = await in_thread(scene.management.call, "GET", "/api/connections?columns=name")
    for connection in connections:
        place = f"/api/connections/{quote(connection['name'], safe='')}"
        await in_thread(scene.management.call, "DELETE", place)
    yield


FAULTS: Final = (
    SceneFault(
        name="broker-memory-alarm",
        claim="publishers are blocked and consumers are not; 202 as before",
        strike=_memory_alarm,
        lasting_s=3.0,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="publishers-blocked-in-an-outage",
        claim="batches that were given back while a burial waited are posted before they are acked",
        strike=_blocked_in_an_outage,
        striking_s=3.0,
        lasting_s=2.0,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="queue-deleted",
        claim="after a migrate the reconciler finishes what was accepted over HTTP",
        strike=_queue_deleted(declared_after_s=None),
        lasting_s=2.0,
        recovery_bound_s=BROKER_BACK_S,
        moves_bindings=True,
    ),
    SceneFault(
        name="consumer-cancelled",
        claim="a consumer that the broker cancels under load is made anew within seconds",
        strike=_queue_deleted(declared_after_s=_CANCELLING_S),
        lasting_s=1.0,
        recovery_bound_s=BROKER_BACK_S,
        moves_bindings=True,
    ),
    SceneFault(
        name="queue-declared-at-once",
        claim="a consumer that RabbitMQ 3.10 keeps and hands nothing is found by its silence",
        strike=_queue_deleted(declared_after_s=0.0),
        lasting_s=1.0,
        recovery_bound_s=QUIET_MAX_S + 2 * BROKER_BACK_S,
        moves_bindings=True,
    ),
    SceneFault(
        name="consumer-timed-out",
        claim="a batch that PostgreSQL holds up is given back before it costs the consumer",
        targets={
            "postgres-frozen": _consumer_timeout(frozen(lambda stack: stack.postgres)),
            "postgres-silent": _consumer_timeout(
                trouble_on(ways_of(Role.PROCESSOR, Server.POSTGRES), Proxy.silent)
            ),
        },
        striking_s=1.5,
        lasting_s=7.0,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="transactions-unroutable",
        claim="an upstream system gets no confirm and sends again; HTTP goes on",
        strike=_unbound(TRANSACTIONS_EXCHANGE, "1", _partitions),
        lasting_s=2.0,
        moves_bindings=True,
    ),
    SceneFault(
        name="dead-letters-unroutable",
        claim="poison waits unacked until its exchange leads somewhere again",
        # A binding with an empty key is called ~ by the management API.
        strike=_unbound(DEAD_LETTERS, "~", lambda _: [DEAD_LETTERS]),
        lasting_s=2.0,
    ),
    SceneFault(
        name="connections-closed-by-the-broker",
        claim="connections are made anew; unacked messages come again and are posted once",
        strike=_connections_closed,
    ),
)
