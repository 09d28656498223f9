"""What a system holds at the broker, in the broker's own words, exists in 3.10 and in 4.x."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cli.clients.management import Management
from contracts.topology import EVENTS_LOG, EXCHANGES, NOTIFICATIONS, queues
from runtime.amqp.connection import close, connect, open_channel
from runtime.amqp.topology import declare_topology
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.integration.reconciler.parts import PARTITIONS
from tests.support import deposit, eventually
from tools.stack import Stack

_GONE_IN_4 = ("x-ha-policy", "x-ha-nodes", "x-queue-mode")


class Broker:
    """One virtual host, as the management API lists it."""

    def __init__(self, stack: Stack, vhost: str) -> None:
        assert stack.rabbitmq.management_url is not None
        self._management = Management(stack.rabbitmq.management_url)
        self._vhost = vhost

    async def series(self) -> tuple[int, ...]:
        """Return the broker's major and minor version."""
        overview = await asyncio.to_thread(self._management.call, "GET", "/api/overview")
        return tuple(int(part) for part in overview["rabbitmq_version"].split(".")[:2])

    async def list(self, what: str) -> list[dict[str, Any]]:
        """Return queues, exchanges, channels, consumers or policies."""
        path = f"/api/vhosts/{self._vhost}/channels" if what == "channels" else None
        answer = await asyncio.to_thread(
            self._management.call, "GET", path or f"/api/{what}/{self._vhost}"
        )
        assert isinstance(answer, list)
        return answer


@pytest.fixture
async def broker_of_a_system(
    stack: Stack, template: str, tmp_path: Path
) -> AsyncIterator[tuple[CheckedDoors, Broker]]:
    """A system that has worked, and its broker."""
    async with open_doors(stack, template, tmp_path) as doors:
        wallet = await doors.api.create_wallet()
        assert (await doors.api.submit(deposit(wallet, "1.00"))).json["status"] == "COMPLETED"
        yield doors, Broker(stack, doors.vhost)


async def test_a_working_system_asks_for_nothing_that_rabbitmq_4_dropped(
    broker_of_a_system: tuple[CheckedDoors, Broker],
) -> None:
    _, broker = broker_of_a_system

    async def every_consumer() -> list[dict[str, Any]]:
        found = await broker.list("consumers")
        return found if len(found) >= 2 else []

    async def every_channel() -> list[dict[str, Any]]:
        # The broker tells of a channel's settings some seconds after it was opened.
        found = await broker.list("channels")
        return found if all("prefetch_count" in one for one in found) else []

    consumers = await eventually(every_consumer, what="the consumers are listed")
    channels = await eventually(every_channel, what="the channels are listed")
    listed = await broker.list("queues")

    # No notifier runs, and nobody follows events.
    expected = {one.name for one in queues(1)} - {NOTIFICATIONS, EVENTS_LOG}
    assert {one["queue"]["name"] for one in consumers} == expected
    assert all(one["ack_required"] and one["prefetch_count"] > 0 for one in consumers)
    # Up to 3.13 a channel can have a limit over all its consumers, and is shown with it; from 4.0
    # on asking for one is answered and does nothing, so nobody may rely on it.
    shows_global = await broker.series() < (4, 0)
    assert {"global_prefetch_count" in one for one in channels} == {shows_global}
    assert [one["name"] for one in channels if one.get("global_prefetch_count")] == []
    assert [one["name"] for one in listed if one["exclusive"] or one["auto_delete"]] == []
    assert all(one["durable"] for one in listed)
    types = {one["name"]: one["type"] for one in listed}
    assert types.pop(EVENTS_LOG) == "stream"
    assert set(types.values()) == {"quorum"}
    assert [name for one in listed for name in one["arguments"] if name in _GONE_IN_4] == []
    # Mirroring was asked for by policies; we need none at all.
    assert await broker.list("policies") == []


async def test_the_broker_holds_what_is_declared_and_nothing_else(
    stack: Stack, broker_url: str
) -> None:
    broker = Broker(stack, broker_url.rsplit("/", 1)[1])
    wanted = {queue.name: queue for queue in queues(PARTITIONS)}

    listed = {one["name"]: one for one in await broker.list("queues")}
    exchanges = {one["name"]: one for one in await broker.list("exchanges")}
    bindings = await broker.list("bindings")

    assert listed.keys() == wanted.keys()
    for name, queue in wanted.items():
        assert listed[name]["arguments"] == queue.arguments
    for exchange in EXCHANGES:
        assert exchanges[exchange.name]["type"] == exchange.type
        assert exchanges[exchange.name]["durable"]
    bound = {(one["source"], one["destination"]) for one in bindings if one["source"]}
    assert bound == {(queue.exchange, queue.name) for queue in wanted.values() if queue.is_bound}


async def test_declaring_again_changes_nothing(broker_url: str) -> None:
    assert await declare_topology(broker_url, partitions=PARTITIONS)
    connection = await connect(broker_url, name="test")
    channel = await open_channel(connection)
    for queue in queues(PARTITIONS):
        assert (await channel.queue_declare(queue.name, passive=True)).message_count == 0
    await close(connection)
