"""What reaches the broker's dead-letter queue reaches the table, once, whoever buried it."""

from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import orjson
from aiormq.abc import ChannelFrame
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from contracts.messages import (
    DETAIL_HEADER,
    QUEUE_HEADER,
    REASON_HEADER,
    SUBMITTER_HEADER,
    TRANSACTION_HEADER,
    DeadLetterReason,
)
from contracts.topology import DEAD_LETTERS, partition_queue
from dead_letters.collector import IN_HAND_MAX, DeadLetterCollector
from dead_letters.model import HEXADECIMAL
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Outgoing, Publisher
from runtime.amqp.topology import check_queue, declare_topology
from runtime.amqp.watchdog import WATCH_INTERVAL_S
from runtime.postgres.pool import Connection, Pool, connect
from tests.integration.dead_letters.conftest import PARTITIONS
from tests.integration.reconciler.serving import running
from tests.support import PATIENCE_S, eventually

QUEUE = partition_queue(0)


async def _stored(database: Connection, count: int) -> list[asyncpg.Record]:
    async def look() -> list[asyncpg.Record]:
        rows = await database.fetch("SELECT * FROM dead_letters ORDER BY first_seen_at, id")
        return rows if len(rows) >= count else []

    return await eventually(look, what=f"{count} dead letters")


async def _wait_until_empty(channel: Channel) -> None:
    async def look() -> bool:
        return await check_queue(channel, DEAD_LETTERS) == 0

    assert await eventually(look, what="an empty dead-letter queue")


def _buried(body: bytes = b"not json", **headers: str) -> Outgoing:
    return Outgoing(
        exchange=DEAD_LETTERS,
        routing_key=QUEUE,
        body=body,
        type="transaction.requested.v1",
        content_type="application/json",
        headers={
            REASON_HEADER: "not_json",
            DETAIL_HEADER: "it is not JSON",
            QUEUE_HEADER: QUEUE,
            SUBMITTER_HEADER: "shop",
            **headers,
        },
    )


async def test_a_dead_letter_of_the_processor_is_stored_as_it_came(
    pool: Pool, database: Connection, broker_url: str, publisher: Publisher, channel: Channel
) -> None:
    transaction_id = uuid4()
    message = _buried(b"\x00\xff", **{TRANSACTION_HEADER: str(transaction_id), "color": "blue"})
    async with running(DeadLetterCollector(broker_url, pool=pool)):
        await publisher.publish(message, timeout_s=5)
        [row] = await _stored(database, 1)
        await _wait_until_empty(channel)

    assert row["reason"] == "not_json"
    assert row["detail"] == "it is not JSON"
    assert row["queue"] == QUEUE
    assert row["submitter"] == "shop"
    assert row["transaction_id"] == transaction_id
    assert row["body"] == b"\x00\xff"
    assert row["message_type"] == "transaction.requested.v1"
    assert row["content_type"] == "application/json"
    assert orjson.loads(row["headers"]) == {"color": "blue"}
    assert row["replayed_at"] is row["discarded_at"] is None


async def test_a_message_that_the_broker_buried_names_the_validated_user(
    pool: Pool, database: Connection, broker_url: str, channel: Channel
) -> None:
    user = urlsplit(broker_url).username
    limited = "limited"
    await channel.queue_declare(
        limited,
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": 1,
            "x-dead-letter-exchange": DEAD_LETTERS,
        },
    )
    spoofed = {SUBMITTER_HEADER: "someone else", REASON_HEADER: "not_json", "color": "blue"}
    properties = Basic.Properties(
        user_id=user, message_id="1", delivery_mode=2, headers=dict(spoofed)
    )
    await channel.basic_publish(b"{}", routing_key=limited, properties=properties)

    async def give_back(message: object) -> None:
        # From RabbitMQ 4.3 on a nack does not count towards the limit; a reject does in every one.
        await channel.basic_reject(message.delivery_tag, requeue=True)  # type: ignore[attr-defined]

    await channel.basic_consume(limited, give_back)
    async with running(DeadLetterCollector(broker_url, pool=pool)):
        [row] = await _stored(database, 1)

    assert row["reason"] == "delivery_limit"
    assert row["queue"] == limited
    assert row["submitter"] == user
    assert row["message_id"].startswith("broker:1:")
    headers = orjson.loads(row["headers"])
    assert headers["color"] == "blue"
    assert headers["x-death"][0]["reason"] == "delivery_limit"


async def test_a_message_that_comes_again_is_stored_once(
    pool: Pool, database: Connection, broker_url: str, channel: Channel
) -> None:
    """Twice the same delivery, as after an ack that was lost; then one more message."""
    properties = Basic.Properties(message_id="1", headers={REASON_HEADER: "not_json"})
    for body in (b"first", b"first", b"second"):
        await channel.basic_publish(body, exchange=DEAD_LETTERS, properties=properties)
    async with running(DeadLetterCollector(broker_url, pool=pool)):
        await _wait_until_empty(channel)
        rows = await _stored(database, 2)

    assert [row["body"] for row in rows] == [b"first", b"second"]


async def test_nothing_is_lost_while_the_database_does_not_answer(
    pool: Pool,
    database: Connection,
    database_url: str,
    broker_url: str,
    channel: Channel,
) -> None:
    count = 3 * IN_HAND_MAX
    locker = await connect(database_url, name="test")
    lock = locker.transaction()
    await lock.start()
    await locker.execute("LOCK TABLE dead_letters IN ACCESS EXCLUSIVE MODE")
    for number in range(count):
        await channel.basic_publish(
            str(number).encode(),
            exchange=DEAD_LETTERS,
            properties=Basic.Properties(message_id=uuid4().hex, headers={REASON_HEADER: "unknown"}),
        )

    async def is_refused() -> bool:
        failures = await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
        return bool(failures)

    async with running(DeadLetterCollector(broker_url, pool=pool)):
        await eventually(is_refused, what="a collector that waits")
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        await lock.rollback()
        rows = await _stored(database, count)
        await _wait_until_empty(channel)
    await locker.close()

    assert {row["body"] for row in rows} == {str(number).encode() for number in range(count)}


async def test_huge_and_binary_messages_are_stored_byte_for_byte(
    pool: Pool, database: Connection, broker_url: str, publisher: Publisher, channel: Channel
) -> None:
    """More than one insert may hold: they are stored one after the other."""
    bodies = [bytes([first]) + bytes(range(256)) * 45_000 for first in range(3)]
    for body in bodies:
        await publisher.publish(_buried(body), timeout_s=10)
    async with running(DeadLetterCollector(broker_url, pool=pool)):
        rows = await _stored(database, len(bodies))
        await _wait_until_empty(channel)
    commits = await database.fetchval("SELECT count(DISTINCT xmin::text) FROM dead_letters")

    assert sorted(row["body"] for row in rows) == bodies
    assert commits == len(bodies)


async def test_a_collector_that_is_stopped_leaves_the_rest_to_the_next(
    pool: Pool, database: Connection, broker_url: str, publisher: Publisher, channel: Channel
) -> None:
    for number in range(50):
        await publisher.publish(_buried(str(number).encode()), timeout_s=5)
    async with running(DeadLetterCollector(broker_url, pool=pool)):
        await _stored(database, 1)
    await publisher.publish(_buried(b"50"), timeout_s=5)
    async with running(DeadLetterCollector(broker_url, pool=pool)):
        rows = await _stored(database, 51)
        await _wait_until_empty(channel)

    assert len(rows) == 51


async def _is(collector: DeadLetterCollector, *, up: bool, within_s: float = PATIENCE_S) -> None:
    async def look() -> bool:
        return collector.is_up is up

    await eventually(look, what="consuming" if up else "noticing the loss", within_s=within_s)


async def test_a_queue_that_was_deleted_and_declared_again_is_consumed_again(
    pool: Pool, database: Connection, broker_url: str, publisher: Publisher, channel: Channel
) -> None:
    collector = DeadLetterCollector(broker_url, pool=pool)

    async with running(collector):
        await _is(collector, up=True)
        await channel.queue_delete(DEAD_LETTERS)
        await _is(collector, up=False)
        await declare_topology(broker_url, partitions=PARTITIONS)
        await publisher.publish(_buried(), timeout_s=5)
        [row] = await _stored(database, 1)

    assert row["reason"] == DeadLetterReason.NOT_JSON


async def test_letters_that_the_database_refuses_are_stored_in_part_and_hold_nobody_up(
    pool: Pool, database: Connection, broker_url: str, publisher: Publisher, channel: Channel
) -> None:
    """More of them than the collector has in hand: each once kept a place for ever."""
    await database.execute(
        "ALTER TABLE dead_letters ADD CHECK (position('cursed' IN headers::text) = 0)"
    )
    cursed = IN_HAND_MAX + 4
    for number in range(cursed):
        await publisher.publish(_buried(f"{number}".encode(), cursed="yes"), timeout_s=5)
    await publisher.publish(_buried(b"good", color="blue"), timeout_s=5)

    async with running(DeadLetterCollector(broker_url, pool=pool)):
        rows = await _stored(database, cursed + 1)
        await _wait_until_empty(channel)

    [good] = [row for row in rows if row["body"] == b"good"]
    assert orjson.loads(good["headers"]) == {"color": "blue"}
    in_part = [row for row in rows if row is not good]
    assert {row["body"] for row in in_part} == {
        f"{number}".encode().hex().encode() for number in range(cursed)
    }
    assert {row["reason"] for row in in_part} == {"not_json"}
    assert {row["content_type"] for row in in_part} == {HEXADECIMAL}
    assert all("CheckViolation" in row["detail"] for row in in_part)


async def test_properties_that_are_no_text_are_stored_as_they_can_be_shown(
    pool: Pool, database: Connection, broker_url: str, channel: Channel
) -> None:
    octets = b"\xff" * 255
    await _publish_octets(channel, octets)
    async with running(DeadLetterCollector(broker_url, pool=pool)):
        [row] = await _stored(database, 1)
        await _wait_until_empty(channel)

    # As long as a short string may be.
    shown = ("\\xff" * 255)[:255]
    assert (row["message_type"], row["content_type"]) == (shown, shown)
    assert row["message_id"].startswith("broker:")


async def test_a_consumer_that_the_broker_cancels_is_missed_at_once(
    pool: Pool, broker_url: str, channel: Channel
) -> None:
    collector = DeadLetterCollector(broker_url, pool=pool)

    async with running(collector):
        await _is(collector, up=True)
        await channel.queue_delete(DEAD_LETTERS)
        # The watch looks for the first time after five seconds.
        await _is(collector, up=False, within_s=WATCH_INTERVAL_S / 2)
        await declare_topology(broker_url, partitions=PARTITIONS)
        await _is(collector, up=True)


async def _publish_octets(channel: Channel, octets: bytes) -> None:
    """Publish a message whose text properties are these octets, as no decent client would."""
    text = "x" * len(octets)
    properties = Basic.Properties(
        message_id=text, message_type=text, content_type=text, correlation_id=text
    )
    frames = b"".join(
        frame.marshal(part, channel.number)
        for part in (
            Basic.Publish(exchange=DEAD_LETTERS, routing_key=QUEUE),
            ContentHeader(0, 2, properties),
            ContentBody(b"{}"),
        )
    )
    raw = frames.replace(text.encode(), octets)
    await channel.write_queue.put(  # type: ignore[attr-defined]
        ChannelFrame(raw, should_close=False, drain_future=None)
    )
