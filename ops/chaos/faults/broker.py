"""What happens inside a broker that runs: alarms, queues and bindings that go, cut clients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

from contracts.topology import DEAD_LETTERS, TRANSACTIONS_EXCHANGE, partition_queue
from ops.chaos.faults.fault import BROKER_BACK_S, SceneFault, Strike
from ops.chaos.faults.messages import await_all_before_now
from ops.chaos.scene import NotStruckError, Scene, Way, in_thread
from ops.stack.rabbitmq import PrivateRabbitMQ
from runtime.topology import declare_topology

_WATERMARK: Final = "set_vm_memory_high_watermark"
_WATERMARK_DEFAULT: Final = "0.4"


@asynccontextmanager
async def _memory_alarm(scene: Scene) -> AsyncIterator[None]:
    broker = scene.stack.rabbitmq
    if not isinstance(broker, PrivateRabbitMQ):
        raise NotStruckError("the broker is not ours to control")
    await in_thread(broker.control, _WATERMARK, "absolute", "1")
    try:
        yield
    finally:
        await in_thread(broker.control, _WATERMARK, _WATERMARK_DEFAULT)


@asynccontextmanager
async def _queue_deleted(scene: Scene) -> AsyncIterator[None]:
    """Delete the queue with the ingress's announcements in it.

    What upstream systems had confirmed and nobody had recorded would really be lost with it; so
    their way is closed until all of that is posted, as an operator would drain before deleting.
    """
    with scene.proxies[Way.UPSTREAM_RABBITMQ].refusing():
        await await_all_before_now(scene)
        await in_thread(
            scene.management.call, "DELETE", f"/api/queues/%2F/{quote(partition_queue(0))}"
        )
    try:
        yield
    finally:
        await _declare(scene)


def _unbound(exchange: str, queue: str, key: str) -> Strike:
    @asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        binding = f"/api/bindings/%2F/e/{quote(exchange)}/q/{quote(queue)}/{key}"
        await in_thread(scene.management.call, "DELETE", binding)
        try:
            yield
        finally:
            await _declare(scene)

    return strike


async def _declare(scene: Scene) -> None:
    """What `ackledger migrate` does to the broker."""
    await declare_topology(scene.stack.rabbitmq.url, partitions=1)


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
        name="queue-deleted",
        claim="after a migrate the reconciler finishes what was accepted over HTTP",
        strike=_queue_deleted,
        lasting_s=2.0,
        recovery_bound_s=BROKER_BACK_S,
    ),
    SceneFault(
        name="transactions-unroutable",
        claim="an upstream system gets no confirm and sends again; HTTP goes on",
        strike=_unbound(TRANSACTIONS_EXCHANGE, partition_queue(0), "1"),
        lasting_s=2.0,
    ),
    SceneFault(
        name="dead-letters-unroutable",
        claim="poison waits unacked until its exchange leads somewhere again",
        # A binding with an empty key is called ~ by the management API.
        strike=_unbound(DEAD_LETTERS, DEAD_LETTERS, "~"),
        lasting_s=2.0,
    ),
    SceneFault(
        name="connections-closed-by-the-broker",
        claim="connections are made anew; unacked messages come again and are posted once",
        strike=_connections_closed,
    ),
)
