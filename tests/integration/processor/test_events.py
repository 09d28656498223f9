"""Events: what happened to transactions, told to whoever listens."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import orjson
import pytest

from contracts.topology import EVENTS_EXCHANGE
from processor.events.relay import OutboxRelay
from processor.poster import Poster
from runtime.amqp.publisher import Publisher
from runtime.amqp.topology import declare_topology
from runtime.postgres.pool import Connection
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.books import add_wallets, open_pool, record, transfer_command
from tests.integration.processor.correspondents import Listener, ended, listening
from tests.support import Upstream, deposit, requested, transfer, withdrawal

_OWN = {"event_id", "event_type", "occurred_at", "wallets"}


async def _event_of(listener: Listener, transaction_id: str) -> tuple[Any, dict[str, Any]]:
    """Return the first event of a transaction, with its message."""
    while True:
        message = await listener.next()
        event = orjson.loads(message.body)
        if event["id"] == transaction_id:
            return message, event


@pytest.mark.parametrize("currency", ["USD", "JPY"])
async def test_each_end_is_told_with_the_transaction_as_it_is_read(
    api: CheckedApi, doors: CheckedDoors, currency: str
) -> None:
    source, destination = await api.create_wallet(currency), await api.create_wallet(currency)
    bodies = [
        deposit(source, "5", currency),
        transfer(source, destination, "2", currency),
        withdrawal(source, "1", currency),
        withdrawal(source, "100", currency),
    ]
    async with listening(doors.amqp_url, exchange=EVENTS_EXCHANGE) as listener:
        for body, outcome in zip(bodies, ["completed"] * 3 + ["failed"], strict=True):
            transaction = (await api.submit(body)).json
            message, event = await _event_of(listener, transaction["id"])
            assert message.routing_key == f"transaction.{outcome}.{body['type']}.{currency}"
            assert {k: v for k, v in event.items() if k not in _OWN} == transaction
            assert set(event) - set(transaction) == _OWN
            assert event["event_type"] == f"transaction.{outcome}"
            assert event["occurred_at"] == transaction["completed_at"]
            assert str(UUID(event["event_id"])) == event["event_id"]
            assert message.type == f"transaction.{outcome}.v1"
            assert message.headers.items() >= {
                ("cloudEvents_specversion", "1.0"),
                ("cloudEvents_source", "/ackledger/transactions"),
                ("cloudEvents_type", event["event_type"]),
                ("cloudEvents_id", event["event_id"]),
                ("cloudEvents_subject", event["id"]),
                ("cloudEvents_time", event["occurred_at"]),
            }
            assert message.content_type == "application/json"
            assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT


async def test_a_listener_hears_only_what_it_binds_to(api: CheckedApi, doors: CheckedDoors) -> None:
    wallet = await api.create_wallet()
    binding = "transaction.failed.*.USD"
    async with listening(doors.amqp_url, exchange=EVENTS_EXCHANGE, binding=binding) as listener:
        await api.deposit(wallet, "1.00")
        failed = await api.submit(withdrawal(wallet, "5.00"))
        event = orjson.loads((await listener.next()).body)

    assert event["id"] == failed.json["id"]
    assert event["failure"]["code"] == "insufficient_funds"


async def test_every_transaction_has_one_event_and_each_an_id_of_its_own(
    api: CheckedApi, doors: CheckedDoors
) -> None:
    wallet = await api.create_wallet()
    items = [{**deposit(wallet, "1.00"), "idempotency_key": uuid4().hex} for _ in range(300)]
    async with listening(doors.amqp_url, exchange=EVENTS_EXCHANGE) as listener:
        answer = await api.call("POST", "/v1/transactions/batch", json={"transactions": items})
        wanted = {one["transaction"]["id"] for one in answer.json["items"]}
        events: dict[str, str] = {}
        while set(events) != wanted:
            event = orjson.loads((await listener.next()).body)
            if event["id"] in wanted:
                assert events.setdefault(event["id"], event["event_id"]) == event["event_id"]

    assert len(set(events.values())) == 300


async def test_a_transaction_of_upstream_has_its_event_too(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    async with listening(doors.amqp_url, exchange=EVENTS_EXCHANGE) as listener:
        await upstream.publish(requested(deposit(wallet, "1.00"), key=key), routing_key=wallet)
        transaction = await ended(api, key)
        _, event = await _event_of(listener, transaction["id"])

    assert {k: v for k, v in event.items() if k not in _OWN} == transaction


async def test_an_event_that_is_relayed_again_keeps_its_id(
    database: Connection, database_url: str, vhost_url: str
) -> None:
    await declare_topology(vhost_url, partitions=1)
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await record(database, [transfer_command(uuid4().hex, alice, bob, 1) for _ in range(3)])
    publisher = Publisher(vhost_url, name="test")
    running = asyncio.ensure_future(publisher.run())
    try:
        async with (
            open_pool(database_url) as pool,
            listening(vhost_url, exchange=EVENTS_EXCHANGE) as listener,
        ):
            await Poster(pool).post(ids)
            owed = await database.fetchrow(
                "SELECT id, event_type, transaction_ids, created_at FROM outbox"
            )
            assert owed is not None
            relay = OutboxRelay(pool=pool, publisher=publisher, posted=asyncio.Event())
            await publisher.wait_until_up()
            rounds = []
            for _ in range(2):
                assert (await relay.run_once()).events == 3
                bodies = [(await listener.next()).body for _ in ids]
                rounds.append(sorted(orjson.loads(body)["event_id"] for body in bodies))
                assert await database.fetchval("SELECT count(*) FROM outbox") == 0
                await database.execute("INSERT INTO outbox VALUES ($1, $2, $3, $4)", *owed.values())
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert rounds[0] == rounds[1]
    assert len(set(rounds[0])) == 3
