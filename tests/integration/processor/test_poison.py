"""Messages that can never be processed: dead letters with a reason, and no harm to neighbours."""

from typing import Any
from uuid import uuid4

import aio_pika
import aiormq
import orjson
import pytest

from cli.clients.management import Management
from contracts.broker_permissions import NOTHING, Permissions
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.correspondents import dead_letter, dead_letters, ended
from tests.support import Upstream, deposit, requested

_WALLET = "0199a1f2-6c1e-7d40-8001-5f2d9c7be311"
_VALID = requested(deposit(_WALLET, "1.00"), key="KEY")
_ITEM = {**deposit(_WALLET, "1.00"), "idempotency_key": "KEY"}
_MANY = {"version": 1, "transactions": [_ITEM]}


def _json(value: Any) -> bytes:
    return orjson.dumps(value)


# name, body (KEY is made unique), properties, reason, a part of the detail
_POISON: list[tuple[str, bytes, dict[str, Any], str, str]] = [
    ("empty", b"", {"headers": {"marker": "KEY"}}, "not_json", ""),
    ("not JSON", b"not JSON: KEY", {}, "not_json", ""),
    ("cut off", _json(_VALID)[:-1], {}, "not_json", ""),
    ("not UTF-8", b'{"version":1,"x":"KEY\xff"}', {}, "not_json", "utf-8"),
    ("NaN", b'{"version":1,"idempotency_key":"KEY","amount":NaN}', {}, "not_json", "NaN"),
    ("nested deeply", b"[" * 100_000 + b'"KEY"', {}, "not_json", ""),
    ("absurd number", b'{"version":1,"idempotency_key":"KEY","amount":1e99999999999999999999}',
     {}, "not_json", ""),
    ("a list", b'["KEY"]', {}, "invalid_message", "object"),
    ("version 2", _json({**_VALID, "version": 2}), {}, "unknown_version", "2"),
    ("version as text", _json({**_VALID, "version": "1"}), {}, "unknown_version", "1"),
    ("version true", _json({**_VALID, "version": True}), {}, "unknown_version", "True"),
    ("no version", _json(_ITEM), {}, "unknown_version", "None"),
    ("version of any length", _json({**_VALID, "version": "x" * 5000}), {}, "unknown_version", ""),
    ("type of version 2", _json(_VALID), {"type": "transaction.requested.v2"},
     "unknown_version", "v2"),
    ("another type", _json(_VALID), {"type": "gift"}, "unknown_type", "gift"),
    ("our own type with another body", _json(_VALID), {"type": "transaction.recorded.v1"},
     "invalid_message", "transaction_ids"),
    ("our own type without ids", b'{"version":1,"transaction_ids":["KEY"]}',
     {"type": "transaction.recorded.v1"}, "invalid_message", "UUID"),
    ("our own type with somebody's ids",
     b'{"version":1,"transaction_ids":["0199a1f2-6c1e-7d40-8001-5f2d9c7be311"]}',
     {"type": "transaction.recorded.v1", "headers": {"marker": "KEY"}}, "not_permitted", "own"),
    ("another content type", _json(_VALID), {"content_type": "text/plain"}, "not_json",
     "text/plain"),
    ("no user", _json(_VALID), {"user_id": None}, "submitter_missing", "user_id"),
    ("two megabytes", _json({**_VALID, "description": "x" * 2**21}), {}, "message_too_large",
     "1048576"),
    ("1001 transactions", _json({"version": 1, "transactions": [_ITEM] * 1001}), {},
     "invalid_message", "1000"),
    ("no transactions", b'{"version":1,"transactions":[]            }', {"headers": {"m": "KEY"}},
     "invalid_message", "1 to 1000"),
    ("transactions that are no list", b'{"version":1,"transactions":"KEY"}', {},
     "invalid_message", "1 to 1000"),
    ("something beside transactions", _json({**_MANY, "more": 1}), {}, "invalid_message",
     "version"),
    ("a bad item among good ones",
     _json({"version": 1, "transactions": [_ITEM, {**_ITEM, "amount": "-1"}, _ITEM]}), {},
     "invalid_message", "/transactions/1: /amount"),
    ("an item without a key", _json({"version": 1, "transactions": [
        {**deposit(_WALLET, "1.00"), "description": "KEY"}]}), {}, "invalid_message",
     "idempotency_key_missing"),
    ("unknown field", _json({**_VALID, "note": 1}), {}, "invalid_message", "/note"),
    ("unknown field of a strange name", _json(_VALID)[:-1] + b',"\\ud800":1}', {},
     "invalid_message", ""),
    ("unknown currency", _json({**_VALID, "currency": "XXX"}), {}, "invalid_message",
     "/currency"),
    ("amount of zero", _json({**_VALID, "amount": "0"}), {}, "invalid_message", "/amount"),
    ("missing leg", _json({**_VALID, "destination_wallet_id": None}), {}, "invalid_message",
     "/destination_wallet_id"),
    ("key too long", _json({**_VALID, "idempotency_key": "KEY" * 100}), {}, "invalid_message",
     "idempotency_key_invalid"),
    ("NUL in a text", _json({**_VALID, "description": "\x00"}), {}, "invalid_message",
     "/description"),
    ("lone surrogate", _json(_VALID)[:-1] + b',"description":"\\udc00"}', {}, "invalid_message",
     "/description"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "properties", "reason", "detail"),
    [row[1:] for row in _POISON],
    ids=[row[0] for row in _POISON],
)
async def test_poison_becomes_a_dead_letter_and_the_next_message_is_posted(
    doors: CheckedDoors, body: bytes, properties: dict[str, Any], reason: str, detail: str
) -> None:
    unique, good = uuid4().hex[:16], uuid4().hex
    sent = body.replace(b"KEY", unique.encode())
    if b"KEY" not in body:
        sent += b" " * (1 + int(unique, 16) % 9973)
    wallet = await doors.api.create_wallet()
    await doors.upstream.publish(sent, **properties)
    await doors.upstream.publish(requested(deposit(wallet, "1.00"), key=good), routing_key=wallet)
    posted = await ended(doors.api, good)
    letter = await dead_letter(doors.database_url, sent)

    assert posted["status"] == "COMPLETED"
    assert (letter["reason"], bytes(letter["body"])) == (reason, sent)
    assert detail in letter["detail"]
    assert letter["queue"] == "ackledger.transactions.0"
    assert letter["submitter"] == (None if "user_id" in properties else "demo")


async def test_a_good_message_between_two_bad_ones_is_posted(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors
) -> None:
    wallet, keys = await api.create_wallet(), [uuid4().hex for _ in range(5)]
    messages: list[Any] = [
        b"not JSON " + keys[0].encode(),
        requested(deposit(wallet, "1.00"), key=keys[1]),
        {**requested(deposit(wallet, "1.00"), key=keys[2]), "version": 9},
        requested(deposit(wallet, "1.00"), key=keys[3]),
        requested(deposit(wallet, "0"), key=keys[4]),
    ]
    for message in messages:
        await upstream.publish(message, routing_key=wallet)
    posted = [await ended(api, keys[number]) for number in (1, 3)]
    letters = [await dead_letter(doors.database_url, keys[number].encode()) for number in (0, 2, 4)]

    assert [one["status"] for one in posted] == ["COMPLETED"] * 2
    assert [one["reason"] for one in letters] == [
        "not_json",
        "unknown_version",
        "invalid_message",
    ]
    assert await api.balance(wallet) == "2.00"


async def test_a_batch_with_a_bad_item_moves_nothing_at_all(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors
) -> None:
    wallet, keys = await api.create_wallet(), [uuid4().hex, uuid4().hex]
    items = [
        {**deposit(wallet, "1.00"), "idempotency_key": keys[0]},
        {**deposit(wallet, "0.001"), "idempotency_key": keys[1]},
    ]
    await upstream.publish({"version": 1, "transactions": items}, routing_key=wallet)
    letter = await dead_letter(doors.database_url, keys[0].encode())

    assert "/transactions/1: /amount" in letter["detail"]
    assert await api.balance(wallet) == "0.00"
    assert (await api.get("/v1/transactions", idempotency_key=keys[0])).json["items"] == []


async def test_a_used_key_with_other_content_is_a_dead_letter(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors
) -> None:
    wallet, key, other = await api.create_wallet(), uuid4().hex, uuid4().hex
    first = await api.submit(deposit(wallet, "1.00"), key=key)
    await upstream.publish(requested(deposit(wallet, "2.00"), key=key), routing_key=wallet)
    await upstream.publish(requested(deposit(wallet, "3.00"), key=other), routing_key=wallet)
    await ended(api, other)
    letter = await dead_letter(doors.database_url, key.encode())

    assert letter["reason"] == "idempotency_key_reused"
    assert first.json["id"] in letter["detail"]
    assert letter["submitter"] == "demo"
    assert await api.balance(wallet) == "4.00"


async def test_reused_keys_of_a_batch_are_told_and_the_others_posted(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors
) -> None:
    wallet, key, other = await api.create_wallet(), uuid4().hex, uuid4().hex
    await api.submit(deposit(wallet, "1.00"), key=key)
    items = [
        {**deposit(wallet, "3.00"), "idempotency_key": other},
        {**deposit(wallet, "2.00"), "idempotency_key": key},
    ]
    await upstream.publish({"version": 1, "transactions": items}, routing_key=wallet)
    await ended(api, other)
    letter = await dead_letter(doors.database_url, key.encode())

    assert letter["reason"] == "idempotency_key_reused"
    assert "/transactions/1" in letter["detail"]
    assert await api.balance(wallet) == "4.00"


async def test_the_broker_refuses_a_foreign_user(doors: CheckedDoors) -> None:
    key = uuid4().hex
    message = requested(deposit(_WALLET, "1.00"), key=key)
    with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed):
        await doors.upstream.publish(message, user_id="somebody")

    assert await dead_letters(doors.database_url, key.encode()) == []


async def test_an_upstream_user_may_do_nothing_but_publish_transactions(
    doors: CheckedDoors,
) -> None:
    refusal = aiormq.exceptions.ChannelAccessRefused
    message = aio_pika.Message(b"{}", user_id="demo")
    for exchange, routing_key in (
        ("", "ackledger.transactions.0"),
        ("ackledger.dead-letters", ""),
        ("ackledger.events", "transaction.completed.deposit.USD"),
    ):
        channel = await doors.upstream.channel()
        target = await channel.get_exchange(exchange, ensure=False)
        with pytest.raises(refusal):
            await target.publish(message, routing_key=routing_key)
    for queue in ("ackledger.transactions.0", "ackledger.dead-letters"):
        channel = await doors.upstream.channel()
        with pytest.raises(refusal):
            await (await channel.get_queue(queue, ensure=False)).get(fail=False)
    channel = await doors.upstream.channel()
    with pytest.raises(refusal):
        await channel.declare_queue(uuid4().hex)


async def test_a_user_without_permission_cannot_publish(doors: CheckedDoors) -> None:
    name = f"u{uuid4().hex[:8]}"
    management = Management(doors.stack.rabbitmq.management_url or "")
    management.put_user(name, password="secret")
    nothing = Permissions(NOTHING, NOTHING, NOTHING)
    management.put_permissions(name, vhost=doors.vhost, permissions=nothing)
    host = doors.amqp_url.rpartition("@")[2]
    async with Upstream(f"amqp://{name}:secret@{host}", user=name) as stranger:
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await stranger.publish(requested(deposit(_WALLET, "1.00")))
    management.call("DELETE", f"/api/users/{name}")


async def test_an_exchange_that_does_not_exist_is_told_to_the_publisher(
    doors: CheckedDoors,
) -> None:
    connection = await aio_pika.connect(doors.amqp_url)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        nowhere = await channel.get_exchange("ackledger.nowhere", ensure=False)
        with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
            await nowhere.publish(aio_pika.Message(b"{}"), routing_key="x")
        channel = await connection.channel(on_return_raises=True)
        with pytest.raises(aio_pika.exceptions.PublishError):
            await channel.default_exchange.publish(
                aio_pika.Message(b"{}"), routing_key="ackledger.transactions.99"
            )
