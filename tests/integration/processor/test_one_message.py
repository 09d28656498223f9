"""What one message may cost the others: nothing, whatever its properties, its fields and wishes."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import orjson
import pytest

from runtime.amqp.connection import close, connect, open_channel
from runtime.postgres.pool import connect as connect_database
from tests.integration.dead_letters.letters import store
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.correspondents import (
    Octets,
    dead_letter,
    dead_letters,
    ended,
    good_one_is_posted,
    listening,
)
from tests.support import deposit, eventually, requested


@pytest.mark.parametrize("name", ["type", "content_type", "correlation_id", "reply_to"])
@pytest.mark.parametrize("is_sound", [True, False], ids=["sound body", "not JSON"])
async def test_octets_that_grow_when_they_are_shown_stop_nobody(
    own_doors: CheckedDoors, name: str, *, is_sound: bool
) -> None:
    wallet, marker = await own_doors.api.create_wallet(), uuid4().hex
    message = requested(deposit(wallet, "1.00"), key=marker)
    body = orjson.dumps(message) if is_sound else f"not JSON {marker}".encode()
    await own_doors.upstream.publish(body, **{name: Octets("x" * 255)})
    await good_one_is_posted(own_doors, wallet)

    if is_sound and name in {"correlation_id", "reply_to"}:
        assert (await ended(own_doors.api, marker))["status"] == "COMPLETED"
    else:
        letter = await dead_letter(own_doors.database_url, marker.encode())
        assert bytes(letter["body"]) == body
        assert letter["submitter"] == "demo"


async def test_a_message_of_reused_keys_is_one_dead_letter_that_names_the_places(
    own_doors: CheckedDoors,
) -> None:
    wallet, keys = await own_doors.api.create_wallet(), [uuid4().hex for _ in range(6)]

    def message(amount: str, chosen: list[int]) -> dict[str, Any]:
        items = [{**deposit(wallet, amount), "idempotency_key": keys[one]} for one in chosen]
        return {"version": 1, "transactions": items}

    await own_doors.upstream.publish(message("1.00", [0, 1, 2, 4]), routing_key=wallet)
    await ended(own_doors.api, keys[4])
    await own_doors.upstream.publish(message("2.00", [0, 1, 2, 3, 4, 5]), routing_key=wallet)
    await ended(own_doors.api, keys[5])
    await good_one_is_posted(own_doors, wallet)
    first = await dead_letter(own_doors.database_url, keys[3].encode())
    letters = await dead_letters(own_doors.database_url, keys[3].encode())

    assert len(letters) == 1
    assert first["reason"] == "idempotency_key_reused"
    assert "/transactions/0-2,4: " in first["detail"]
    assert await own_doors.api.balance(wallet) == "9.00"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'Application/JSON ; Charset="utf-8"; q=1',
        "application/vnd.acme+json",
    ],
)
async def test_json_in_utf_8_is_read_however_its_type_is_written(
    own_doors: CheckedDoors, content_type: str
) -> None:
    wallet, key = await own_doors.api.create_wallet(), uuid4().hex
    message = requested(deposit(wallet, "1.00"), key=key)
    await own_doors.upstream.publish(message, routing_key=wallet, content_type=content_type)

    assert (await ended(own_doors.api, key))["status"] == "COMPLETED"


async def test_json_in_another_charset_is_a_dead_letter_that_says_so(
    own_doors: CheckedDoors,
) -> None:
    wallet, key = await own_doors.api.create_wallet(), uuid4().hex
    message = requested(deposit(wallet, "1.00"), key=key)
    await own_doors.upstream.publish(message, content_type="application/json; charset=latin1")
    letter = await dead_letter(own_doors.database_url, key.encode())

    assert letter["reason"] == "not_json"
    assert letter["detail"] == "the charset is 'latin1', and JSON is UTF-8"


@pytest.mark.parametrize(
    "reply_to", ["billing.results", "ackledger.transactions.0", "ackledger.dead-letters", "demo"]
)
async def test_a_result_goes_to_no_queue_that_its_sender_may_not_read(
    own_doors: CheckedDoors, reply_to: str
) -> None:
    wallet, key = await own_doors.api.create_wallet(), uuid4().hex
    connection = await connect(own_doors.amqp_url, name="test")
    channel = await open_channel(connection)
    await channel.queue_declare(reply_to, passive=reply_to.startswith("ackledger."))
    await own_doors.upstream.publish(
        requested(deposit(wallet, "1.00"), key=key), routing_key=wallet, reply_to=reply_to
    )
    posted = await ended(own_doors.api, key)
    await good_one_is_posted(own_doors, wallet)
    state = await channel.queue_declare(reply_to, passive=True)
    await close(connection)
    letters = await dead_letters(own_doors.database_url, key.encode())

    assert posted["status"] == "COMPLETED"
    assert state.message_count == 0
    assert letters == []


async def test_direct_reply_to_is_answered(own_doors: CheckedDoors) -> None:
    wallet, key = await own_doors.api.create_wallet(), uuid4().hex
    channel = await own_doors.upstream.channel()
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    underlay = await channel.get_underlay_channel()
    await underlay.basic_consume("amq.rabbitmq.reply-to", arrived.put, no_ack=True)
    exchange = await channel.get_exchange("ackledger.transactions", ensure=False)
    await exchange.publish(
        aio_pika.Message(
            orjson.dumps(requested(deposit(wallet, "1.00"), key=key)),
            user_id="demo",
            reply_to="amq.rabbitmq.reply-to",
            correlation_id="direct",
        ),
        routing_key=wallet,
    )
    async with asyncio.timeout(15):
        message = await arrived.get()
    await channel.close()

    assert message.header.properties.correlation_id == "direct"
    assert orjson.loads(message.body)["transactions"][0]["status"] == "COMPLETED"


async def test_a_result_that_cannot_be_written_is_set_aside_and_sent_by_a_replay(
    own_doors: CheckedDoors,
) -> None:
    """As one of a transaction whose currency this release does not know."""
    wallet, key = await own_doors.api.create_wallet(), uuid4().hex
    message = requested(deposit(wallet, "1.00"), key=key)
    await own_doors.upstream.publish(message, routing_key=wallet)
    transaction = await ended(own_doors.api, key)
    database = await connect_database(own_doors.database_url, name="test")
    await database.execute(
        "UPDATE transactions SET currency = 'ZZZ' WHERE id = $1", UUID(transaction["id"])
    )
    async with listening(own_doors.amqp_url, name=f"demo.{uuid4().hex}") as replies:
        await own_doors.upstream.publish(
            message, routing_key=wallet, reply_to=replies.name, correlation_id="50 % é"
        )
        other = uuid4().hex
        await own_doors.upstream.publish(
            requested(deposit(wallet, "1.00"), key=other), routing_key=wallet, reply_to=replies.name
        )
        result = orjson.loads((await replies.next()).body)
        letter = await dead_letter(own_doors.database_url, key.encode())
        replay = f"/v1/dead-letters/{letter['id']}/replay"
        too_early = await own_doors.api.call("POST", replay)
        await database.execute(
            "UPDATE transactions SET currency = 'USD' WHERE id = $1", UUID(transaction["id"])
        )
        await own_doors.api.call("POST", replay, params={"dry_run": "true"})
        replayed = await own_doors.api.call("POST", replay)
        sent = await replies.next()
    await database.close()

    assert [one["idempotency_key"] for one in result["transactions"]] == [other]
    assert letter["reason"] == "reply_not_sent"
    assert letter["detail"].startswith("the reply to this message could not be written: ")
    assert (too_early.status, too_early.code) == (409, "dead_letter_refused")
    assert replayed.json["outcome"] == "replayed"
    assert sent.correlation_id == "50 % é"
    assert orjson.loads(sent.body) == {"version": 1, "transactions": [transaction]}


async def test_a_result_whose_queue_is_gone_stays_a_dead_letter(own_doors: CheckedDoors) -> None:
    wallet, key = await own_doors.api.create_wallet(), uuid4().hex
    message = requested(deposit(wallet, "1.00"), key=key)
    await own_doors.upstream.publish(message, routing_key=wallet)
    await ended(own_doors.api, key)
    database = await connect_database(own_doors.database_url, name="test")
    letter = await store(database, orjson.dumps(message), reason="reply_not_sent", submitter="demo")
    headers = orjson.dumps({"x-ackledger-reply-to": f"demo.{uuid4().hex}"}).decode()
    await database.execute("UPDATE dead_letters SET headers = $2 WHERE id = $1", letter, headers)
    replay = f"/v1/dead-letters/{letter}/replay"

    refused = await own_doors.api.call("POST", replay)
    await database.execute("UPDATE dead_letters SET headers = '{}' WHERE id = $1", letter)
    nowhere = await own_doors.api.call("POST", replay)
    state = await database.fetchval("SELECT replayed_at FROM dead_letters WHERE id = $1", letter)
    await database.close()

    assert refused.status == nowhere.status == 409
    assert "its result was not sent: UnroutableError" in refused.json["detail"]
    assert "names no queue" in nowhere.json["detail"]
    assert state is None


async def test_a_good_message_behind_many_wide_ones_is_posted_soon(
    own_doors: CheckedDoors,
) -> None:
    """Forty of 1 MB with 100,000 unknown fields each: they took minutes, and gigabytes."""
    wallet, marker = await own_doors.api.create_wallet(), uuid4().hex
    fields = ",".join(f'"{number}":0' for number in range(100_000))
    wide = f'{{"version":1,"{marker}":0,{fields}}}'.encode()
    for _ in range(40):
        await own_doors.upstream.publish(wide, routing_key=wallet)
    await good_one_is_posted(own_doors, wallet, within_s=10)

    async def all_stored() -> bool:
        return len(await dead_letters(own_doors.database_url, marker.encode())) == 40

    await eventually(all_stored, what="forty dead letters", within_s=60.0)
    [letter, *_] = await dead_letters(own_doors.database_url, marker.encode())
    assert letter["reason"] == "invalid_message"
    assert letter["detail"].startswith("too many fields: ")
