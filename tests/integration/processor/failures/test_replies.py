"""Results for whoever asked: sent behind the commit, again for what comes again, and bounded."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import orjson

from processor.intake import PartitionConsumer
from runtime.amqp.connection import Channel
from runtime.postgres.pool import Connection
from runtime.service.fault_points import FaultPoint, FaultPoints
from tests.integration.processor.books import add_wallets
from tests.integration.processor.correspondents import Listener, listening
from tests.integration.processor.failures.conftest import Site
from tests.integration.processor.failures.workshop import (
    SHOP,
    circuit_open,
    metric,
    nothing_unsettled,
    processing,
    request,
)
from tests.support import eventually


class _AfterCommit(FaultPoints):
    """Does something once, between the first commit and what follows it."""

    def __init__(self, strike: Callable[[], None]) -> None:
        self._strike: Callable[[], None] | None = strike

    async def reach(self, point: FaultPoint) -> None:
        """Strike the first time."""
        if point is FaultPoint.PROCESSOR_COMMITTED and self._strike is not None:
            strike, self._strike = self._strike, None
            strike()


_FULL = f"{SHOP}.full"


@asynccontextmanager
async def _listening(site: Site) -> AsyncIterator[Listener]:
    """Listen on a queue of the shop's own."""
    async with listening(site.broker_url, name=f"{SHOP}.{uuid4().hex}") as replies:
        yield replies


async def _results(replies: Listener, count: int) -> dict[str, list[Any]]:
    """Return so many results' transactions, by the correlation id that they came with."""
    found: dict[str, list[Any]] = {}
    for _ in range(count):
        message = await replies.next()
        assert message.correlation_id is not None
        found.setdefault(message.correlation_id, []).append(
            orjson.loads(message.body)["transactions"]
        )
    return found


async def _posted(database: Connection, count: int) -> None:
    async def look() -> bool:
        found = await database.fetchval(
            "SELECT count(*) FROM transactions WHERE status = 'COMPLETED'"
        )
        return bool(found == count)

    await eventually(look, what=f"{count} COMPLETED", within_s=10.0)


async def test_every_request_of_a_batch_has_its_own_result(
    database: Connection, site: Site, shop: Channel
) -> None:
    wallets = await add_wallets(database, 2, balance=1_000)
    keys = [uuid4().hex for _ in range(50)]
    async with _listening(site) as replies:
        for key in keys:
            await request(shop, wallets, reply_to=replies.name, key=key)
        async with processing(site.database_url, site.broker_url):
            results = await _results(replies, len(keys))

    assert sorted(results) == sorted(keys)
    for key, [transactions] in results.items():
        assert [(one["idempotency_key"], one["status"]) for one in transactions] == [
            (key, "COMPLETED")
        ]


async def test_a_request_that_is_delivered_again_is_answered_again(
    database: Connection, site: Site, shop: Channel
) -> None:
    wallets, key = await add_wallets(database, 2, balance=1_000), uuid4().hex
    consumers: list[PartitionConsumer] = []

    def lose_the_delivery() -> None:
        consumers[0].give_back()
        consumers[0].resume()

    points = _AfterCommit(lose_the_delivery)
    async with _listening(site) as replies:
        async with processing(site.database_url, site.broker_url, fault_points=points) as workshop:
            consumers.append(workshop.consumer)
            await request(shop, wallets, reply_to=replies.name, key=key)
            results = await _results(replies, 2)
        await nothing_unsettled(site.channel)

    first, again = results[key]
    assert first == again
    assert [one["status"] for one in first] == ["COMPLETED"]
    assert await database.fetchval("SELECT count(*) FROM entries") == 2


async def test_a_broker_lost_behind_the_commit_costs_no_result(
    database: Connection, site: Site, shop: Channel
) -> None:
    wallets, key = await add_wallets(database, 2, balance=1_000), uuid4().hex

    def lose_the_broker() -> None:
        site.broker_line.unplug()
        asyncio.get_running_loop().call_later(0.5, site.broker_line.plug)

    points = _AfterCommit(lose_the_broker)
    async with (
        _listening(site) as replies,
        processing(site.database_url, site.broker_line.url, fault_points=points),
    ):
        await request(shop, wallets, reply_to=replies.name, key=key)
        results = await _results(replies, 1)

    assert [one["status"] for one in results[key][0]] == ["COMPLETED"]
    assert await database.fetchval("SELECT count(*) FROM entries") == 2


async def test_a_database_lost_behind_the_commit_costs_no_result(
    database: Connection, site: Site, shop: Channel
) -> None:
    wallets, key = await add_wallets(database, 2, balance=1_000), uuid4().hex
    points = _AfterCommit(site.database_line.unplug)
    async with (
        _listening(site) as replies,
        processing(site.database_line.url, site.broker_url, fault_points=points) as workshop,
    ):
        await request(shop, wallets, reply_to=replies.name, key=key)
        await circuit_open(workshop)
        site.database_line.plug()
        results = await _results(replies, 1)

    assert [one["status"] for one in results[key][0]] == ["COMPLETED"]
    assert await database.fetchval("SELECT count(*) FROM entries") == 2


async def test_a_reply_queue_that_takes_nothing_stalls_nobody(
    database: Connection, site: Site, shop: Channel
) -> None:
    """Full, and set to refuse: the broker answers each result with a 'no'."""
    wallets = await add_wallets(database, 2, balance=10_000)
    await site.channel.queue_declare(
        _FULL, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    await site.channel.basic_publish(b"", routing_key=_FULL)
    lost = metric("ackledger_processor_replies_lost_total")
    async with processing(site.database_url, site.broker_url):
        for _ in range(200):
            await request(shop, wallets, reply_to=_FULL, key=uuid4().hex)
        await _posted(database, 200)
    await nothing_unsettled(site.channel)

    assert metric("ackledger_processor_replies_lost_total") >= lost + 190
