"""Upstream systems publish: their messages become transactions, by the rules of the HTTP door."""

import asyncio
from typing import Any
from uuid import uuid4

import orjson
import pytest

from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.correspondents import dead_letters, ended, listening
from tests.support import Upstream, deposit, eventually, requested, transfer, withdrawal


async def test_a_message_becomes_a_transaction_of_the_broker_s_user(
    api: CheckedApi, upstream: Upstream
) -> None:
    wallet, key = await api.create_wallet("KWD"), uuid4().hex
    body = {**deposit(wallet, "1.234", "KWD"), "description": "Lohn", "metadata": {"a": [1.5]}}
    await upstream.publish(requested(body, key=key), routing_key=wallet)
    transaction = await ended(api, key)

    assert transaction["status"] == "COMPLETED"
    assert (transaction["channel"], transaction["submitter"]) == ("amqp", "demo")
    assert {name: transaction[name] for name in body} == body
    assert await api.balance(wallet) == "1.234"


@pytest.mark.parametrize("amount", [10.1, 25, "7.00"])
async def test_amounts_are_read_as_over_http(
    api: CheckedApi, upstream: Upstream, amount: Any
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    await upstream.publish(requested(deposit(wallet, amount), key=key), routing_key=wallet)

    assert float((await ended(api, key))["amount"]) == float(amount)


@pytest.mark.parametrize(
    "properties",
    [
        {"type": None},
        {"content_type": None},
        {"type": None, "content_type": None},
        {"delivery_mode": None},
        {"priority": 5, "expiration": 60_000, "app_id": "shop", "message_id": "1"},
        {"headers": {"n": 1, "list": [1, "x"], "traceparent": 7, "x-request-id": 5}},
    ],
    ids=str,
)
async def test_properties_that_say_nothing_of_the_transaction_do_not_matter(
    api: CheckedApi, upstream: Upstream, properties: dict[str, Any]
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    await upstream.publish(
        requested(deposit(wallet, "1.00"), key=key), routing_key=wallet, **properties
    )

    assert (await ended(api, key))["status"] == "COMPLETED"


async def test_a_message_of_a_thousand_is_posted_in_its_order(
    api: CheckedApi, upstream: Upstream
) -> None:
    source, destination = await api.create_wallet(), await api.create_wallet()
    keys = [uuid4().hex for _ in range(1000)]
    bodies = [deposit(source, "500.00")] + [transfer(source, destination, "1.00")] * 999
    items = [{**body, "idempotency_key": key} for key, body in zip(keys, bodies, strict=True)]
    await upstream.publish({"version": 1, "transactions": items}, routing_key=source)
    assert (await ended(api, keys[-1]))["status"] == "FAILED"

    assert [(await ended(api, keys[n]))["status"] for n in (0, 500, 501)] == [
        "COMPLETED",
        "COMPLETED",
        "FAILED",
    ]
    assert await api.balance(destination) == "500.00"


async def test_messages_of_one_wallet_are_posted_in_the_order_of_publishing(
    api: CheckedApi, upstream: Upstream
) -> None:
    wallet = await api.create_wallet()
    keys = [uuid4().hex for _ in range(40)]
    for number, key in enumerate(keys):
        body = withdrawal(wallet, "1.00") if number % 2 else deposit(wallet, "1.00")
        await upstream.publish(requested(body, key=key), routing_key=wallet)
    await ended(api, keys[-1])
    statuses = {(await ended(api, key))["status"] for key in keys}

    assert statuses == {"COMPLETED"}
    assert await api.balance(wallet) == "0.00"


async def test_a_message_that_comes_twice_moves_money_once(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    message = requested(deposit(wallet, "2.00"), key=key)
    await asyncio.gather(*(upstream.publish(message, routing_key=wallet) for _ in range(20)))
    last = uuid4().hex
    await upstream.publish(requested(deposit(wallet, "1.00"), key=last), routing_key=wallet)
    await ended(api, last)

    assert await api.balance(wallet) == "3.00"
    assert await dead_letters(doors.database_url, key.encode()) == []


async def test_a_key_of_one_door_is_known_at_the_other(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors
) -> None:
    wallet, first, second = await api.create_wallet(), uuid4().hex, uuid4().hex
    await upstream.publish(requested(deposit(wallet, "1.00"), key=first), routing_key=wallet)
    by_message = await ended(api, first)
    replayed = await api.submit(deposit(wallet, 1), key=first)
    by_request = await api.submit(deposit(wallet, "2.00"), key=second)
    await upstream.publish(requested(deposit(wallet, 2), key=second), routing_key=wallet)
    last = uuid4().hex
    await upstream.publish(requested(deposit(wallet, "4.00"), key=last), routing_key=wallet)
    await ended(api, last)
    conflict = await api.submit(deposit(wallet, "9.00"), key=first)

    assert (replayed.status, replayed.headers["Idempotency-Replayed"]) == (200, "true")
    assert replayed.json == by_message
    assert (await ended(api, second))["id"] == by_request.json["id"]
    assert await api.balance(wallet) == "7.00"
    assert await dead_letters(doors.database_url, second.encode()) == []
    assert (conflict.status, conflict.code) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("code", "make"),
    [
        ("insufficient_funds", lambda empty, _: withdrawal(empty, "1.00")),
        ("wallet_not_found", lambda _, unknown: deposit(unknown, "1.00")),
        ("same_wallet", lambda empty, _: transfer(empty, empty, "1.00")),
        ("currency_mismatch", lambda empty, _: deposit(empty, "1.00", "EUR")),
    ],
)
async def test_what_the_business_refuses_is_a_failed_transaction_and_no_dead_letter(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors, code: str, make: Any
) -> None:
    key = uuid4().hex
    body = make(await api.create_wallet(), str(uuid4()))
    await upstream.publish(requested(body, key=key), routing_key="any")
    transaction = await ended(api, key)

    assert transaction["status"] == "FAILED"
    assert transaction["failure"]["code"] == code
    assert await dead_letters(doors.database_url, key.encode()) == []


async def test_a_result_is_sent_to_whoever_asks_for_it(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    message = requested(deposit(wallet, "1.00"), key=key)
    async with listening(doors.amqp_url, name=f"demo.{uuid4().hex}") as replies:
        wishes = {"reply_to": replies.name, "routing_key": wallet}
        await upstream.publish(message, correlation_id="first", **wishes)
        first = await replies.next()
        await upstream.publish(message, correlation_id="again", **wishes)
        again = await replies.next()

    transaction = await ended(api, key)
    assert (first.correlation_id, again.correlation_id) == ("first", "again")
    assert first.type == "transaction.result.v1"
    assert first.content_type == "application/json"
    for reply in (first, again):
        assert orjson.loads(reply.body) == {"version": 1, "transactions": [transaction]}


async def test_the_result_of_many_stands_in_their_order(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors
) -> None:
    wallet = await api.create_wallet()
    amounts = ["1.00", "2.00", "3.00"]
    items = [{**deposit(wallet, one), "idempotency_key": uuid4().hex} for one in amounts]
    items.insert(1, {**withdrawal(wallet, "50.00"), "idempotency_key": uuid4().hex})
    async with listening(doors.amqp_url, name=f"demo.{uuid4().hex}") as replies:
        await upstream.publish(
            {"version": 1, "transactions": items}, routing_key=wallet, reply_to=replies.name
        )
        result = orjson.loads((await replies.next()).body)

    assert [one["amount"] for one in result["transactions"]] == ["1.00", "50.00", "2.00", "3.00"]
    assert [one["status"] for one in result["transactions"]] == [
        "COMPLETED",
        "FAILED",
        "COMPLETED",
        "COMPLETED",
    ]


@pytest.mark.parametrize(
    "reply_to", ["demo.no-such-queue", "amq.rabbitmq.reply-to.x", "demo." + "x" * 250, "é"]
)
async def test_a_reply_that_nobody_takes_costs_nothing(
    api: CheckedApi, upstream: Upstream, reply_to: str
) -> None:
    wallet, keys = await api.create_wallet(), [uuid4().hex, uuid4().hex]
    await upstream.publish(
        requested(deposit(wallet, "1.00"), key=keys[0]), routing_key=wallet, reply_to=reply_to
    )
    await upstream.publish(requested(deposit(wallet, "1.00"), key=keys[1]), routing_key=wallet)

    assert [(await ended(api, key))["status"] for key in keys] == ["COMPLETED"] * 2


async def test_both_doors_at_once_keep_every_cent(api: CheckedApi, upstream: Upstream) -> None:
    wallet = await api.create_wallet()
    keys = [uuid4().hex for _ in range(60)]
    await asyncio.gather(
        *(
            upstream.publish(requested(deposit(wallet, "1.00"), key=key), routing_key=wallet)
            for key in keys
        ),
        *(api.submit(deposit(wallet, "1.00"), key=key, wait=None) for key in keys),
    )

    async def all_posted() -> bool:
        return await api.balance(wallet) == "60.00"

    await eventually(all_posted, what="each key posted once")
    entries = (await api.get(f"/v1/wallets/{wallet}/entries", limit="200")).json["items"]
    assert len(entries) == 60
