"""One event that cannot be told is set aside, and no other one waits for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import orjson
import pytest

from dead_letters.operations import DeadLetters
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Connection, Pool
from tests.integration.reconciler.serving import running
from tests.integration.relay.queues import at_least, bind_queue, emptied
from tests.integration.relay.relaying import (
    event_ids,
    ids_of,
    letters,
    owed_rows,
    post,
    relay_of,
    set_aside_findings,
)
from tests.support import eventually
from tools.stack import Stack
from tools.stack.rabbitmq import PrivateRabbitMQ

_QUEUE = "events"
_UNKNOWN_CURRENCY = "UPDATE transactions SET currency = $2 WHERE id = ANY ($1)"
"""Nobody knows how many decimals it has, so its event cannot be built."""


async def _spoil(database: Connection, *ids: UUID) -> None:
    await database.execute(_UNKNOWN_CURRENCY, list(ids), "???")


async def _mend(database: Connection, *ids: UUID) -> None:
    await database.execute(_UNKNOWN_CURRENCY, list(ids), "USD")


@pytest.fixture
def dead_letters(pool: Pool, publisher: Publisher) -> DeadLetters:
    """What operators act by."""
    return DeadLetters(pool=pool, publisher=publisher, partitions=1)


async def test_an_event_that_cannot_be_built_is_set_aside_alone(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=3, batch=10)
    spoiled = [ids[4], ids[25]]
    await _spoil(database, *spoiled)

    async with running(relay_of(pool, publisher)):
        await at_least(channel, _QUEUE, 28)

        async def told() -> bool:
            return await owed_rows(database) == 0

        await eventually(told, what="nothing is owed any more")

    assert ids_of(await emptied(channel, _QUEUE)) == [one for one in ids if one not in spoiled]
    stored = await letters(database)
    assert [orjson.loads(one["body"])["transaction_id"] for one in stored] == [
        str(one) for one in spoiled
    ]
    assert {(one["reason"], one["queue"], one["submitter"]) for one in stored} == {
        ("event_not_sent", "ackledger.events", "test")
    }


async def test_an_event_in_an_asset_that_was_not_read_yet_is_told(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=1, batch=3)
    await database.execute(_UNKNOWN_CURRENCY, ids[:1], "JUSTNOW8")
    await database.execute(
        "INSERT INTO assets (code, exponent, registered_by, registered_at, usable_from) "
        "VALUES ('JUSTNOW8', 8, 'test', now(), now())"
    )

    async with running(relay_of(pool, publisher)):
        await at_least(channel, _QUEUE, 3)

    told = [orjson.loads(one.body) for one in await emptied(channel, _QUEUE)]
    assert [UUID(event["id"]) for event in told] == ids
    assert len(told[0]["amount"].partition(".")[2]) == 8
    assert await letters(database) == []


async def test_an_event_that_was_set_aside_is_a_finding_until_an_operator_releases_it(
    pool: Pool,
    database: Connection,
    publisher: Publisher,
    channel: Channel,
    dead_letters: DeadLetters,
) -> None:
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=1, batch=3)
    relay = relay_of(pool, publisher)
    owed = await database.fetchval("SELECT id FROM outbox")
    await _spoil(database, ids[1])
    await relay.run_once()
    await _mend(database, ids[1])
    [letter] = await letters(database)
    found = await set_aside_findings(database)

    replayed = await dead_letters.replay(letter["id"], actor="test")
    again = await dead_letters.replay(letter["id"], actor="test")
    await relay.run_once()

    assert found == [f"dead letter {letter['id']}"]
    assert (replayed.fate, again.fate) == ("replayed", "unchanged")
    assert replayed.transaction_ids == (ids[1],)
    arrived = await emptied(channel, _QUEUE)
    assert ids_of(arrived) == [ids[0], ids[2], ids[1]]
    # The event id is that of the row by which it was owed first.
    [[event_id]] = [event_ids(arrived)[ids[1]]]
    assert event_id == orjson.loads(letter["body"])["event_id"]
    assert orjson.loads(letter["body"])["origin_id"] == str(owed)
    assert await set_aside_findings(database) == []


async def test_an_event_that_is_still_unbuildable_is_set_aside_again_and_can_be_given_up(
    pool: Pool, database: Connection, publisher: Publisher, dead_letters: DeadLetters
) -> None:
    ids = await post(pool, database, batches=1, batch=3)
    await _spoil(database, ids[1])
    relay = relay_of(pool, publisher)
    await relay.run_once()
    [first] = await letters(database)
    await dead_letters.replay(first["id"], actor="test")

    await relay.run_once()
    _, second = await letters(database)
    dry = await dead_letters.discard(second["id"], actor="test", dry_run=True)
    given_up = await dead_letters.discard(second["id"], actor="test")

    assert (dry.fate, given_up.fate) == ("discarded", "discarded")
    assert "stays as it is" in given_up.detail
    status = "SELECT status::text FROM transactions WHERE id = $1"
    assert await database.fetchval(status, ids[1]) == "COMPLETED"
    assert await owed_rows(database) == 0


async def test_an_event_that_cannot_be_written_is_set_aside_and_its_row_leaves(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=2, batch=3)
    # A routing key has 255 octets at most.
    await database.execute(
        "UPDATE outbox SET event_type = repeat('x', 300) WHERE transaction_ids @> $1", [ids[0]]
    )

    await relay_of(pool, publisher).run_once()

    assert ids_of(await emptied(channel, _QUEUE)) == ids[3:]
    assert [one["reason"] for one in await letters(database)] == ["event_not_sent"] * 3
    assert await owed_rows(database) == 0


@asynccontextmanager
async def _messages_of_at_most(broker: PrivateRabbitMQ, size: int) -> AsyncIterator[None]:
    # 3.12 and later read the setting once, at their start, into a term of their own.
    setting = (
        "application:set_env(rabbit, max_message_size, {0}), "
        "persistent_term:put(max_message_size, {0})."
    )
    await asyncio.to_thread(broker.control, "eval", setting.format(size))
    try:
        yield
    finally:
        await asyncio.to_thread(broker.control, "eval", setting.format(134217728))


async def test_an_event_that_is_too_large_for_the_broker_is_set_aside_and_no_other(
    own_stack: Stack, pool: Pool, database: Connection, broker_url: str, channel: Channel
) -> None:
    assert isinstance(own_stack.rabbitmq, PrivateRabbitMQ)
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=5, batch=20)
    await database.execute(
        "UPDATE transactions SET description = repeat('x', 5000) WHERE id = $1", ids[47]
    )
    async with _messages_of_at_most(own_stack.rabbitmq, 4000):
        publisher = Publisher(broker_url, name="test-limited")
        async with running(publisher), running(relay_of(pool, publisher)):

            async def told() -> bool:
                return await owed_rows(database) == 0

            await eventually(told, what="nothing is owed any more", within_s=60)

    arrived = await emptied(channel, _QUEUE)
    assert set(event_ids(arrived)) == set(ids) - {ids[47]}
    [letter] = await letters(database)
    assert orjson.loads(letter["body"])["transaction_id"] == str(ids[47])
