"""Senders and processors of different releases side by side: nothing is lost, all is told."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from contracts.messages import DeadLetterReason
from dead_letters.operations import DeadLetters
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Pool, connect, create_pool
from tests.integration.dead_letters.letters import store
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.reconciler.serving import running
from tests.support import deposit, eventually, requested

_FIXTURES = {
    path.name: path.read_bytes()
    for path in sorted(Path(__file__).parents[2].glob("contract/messages/*.requested.v1*"))
}


@pytest.fixture
async def books(own_doors: CheckedDoors) -> AsyncIterator[Pool]:
    """Its database."""
    async with create_pool(
        own_doors.database_url, name="test", size=2, statement_timeout_s=10
    ) as pool:
        yield pool


@pytest.fixture
async def dead_letters(own_doors: CheckedDoors, books: Pool) -> AsyncIterator[DeadLetters]:
    """What its operators act by."""
    publisher = Publisher(own_doors.amqp_url, name="test")
    async with running(publisher):
        await publisher.wait_until_up()
        yield DeadLetters(pool=books, publisher=publisher, partitions=1)


async def _letter_with(books: Pool, body: bytes) -> asyncpg.Record:
    async def look() -> asyncpg.Record | None:
        return await books.fetchrow("SELECT * FROM dead_letters WHERE body = $1", body)

    return await eventually(look, what="the dead letter is stored")


async def _ended(books: Pool, key: str) -> str:
    async def look() -> str | None:
        status: str | None = await books.fetchval(
            "SELECT status::text FROM transactions "
            "WHERE idempotency_key = $1 AND status IN ('COMPLETED', 'FAILED')",
            key,
        )
        return status

    return await eventually(look, what=f"{key} ends")


@pytest.mark.parametrize("name", _FIXTURES)
async def test_every_message_of_version_1_that_was_ever_sent_is_still_processed(
    own_doors: CheckedDoors, books: Pool, name: str
) -> None:
    body = orjson.loads(_FIXTURES[name])
    requests: list[dict[str, Any]] = body.get("transactions") or [body]
    for request in requests:
        request["idempotency_key"] = f"{name}-{request['idempotency_key']}"

    await own_doors.upstream.publish(body)

    # Its wallets were never made here: that is a refusal, and so it was understood.
    for request in requests:
        assert await _ended(books, request["idempotency_key"]) == "FAILED"


@pytest.mark.parametrize(
    ("version", "message_type"),
    [(2, "transaction.requested.v1"), (2, "transaction.requested.v2")],
)
async def test_a_newer_message_is_kept_whole_and_its_neighbours_are_posted(
    own_doors: CheckedDoors,
    books: Pool,
    dead_letters: DeadLetters,
    version: int,
    message_type: str,
) -> None:
    wallet = await own_doors.api.create_wallet()
    newer = orjson.dumps(
        {**requested(deposit(wallet, "5.00")), "version": version, "purpose": "rent"}
    )
    neighbours = [requested(deposit(wallet, "1.00")) for _ in range(2)]

    await own_doors.upstream.publish(neighbours[0])
    await own_doors.upstream.publish(newer, type=message_type)
    await own_doors.upstream.publish(neighbours[1])

    letter = await _letter_with(books, newer)
    assert letter["reason"] == DeadLetterReason.UNKNOWN_VERSION
    # All that a newer release needs to read it: the bytes, what they call themselves, and who sent.
    assert (letter["body"], letter["message_type"]) == (newer, message_type)
    assert (letter["content_type"], letter["submitter"]) == ("application/json", "demo")
    for neighbour in neighbours:
        assert await _ended(books, neighbour["idempotency_key"]) == "COMPLETED"
    # This release cannot read it any better the second time: it stays open for one that can.
    outcome = await dead_letters.replay(letter["id"], actor="test")
    assert outcome.fate == "refused"
    assert (await _letter_with(books, newer))["replayed_at"] is None
    assert await own_doors.api.balance(wallet) == "2.00"


async def test_what_an_older_release_could_not_read_is_replayed_by_this_one(
    own_doors: CheckedDoors, books: Pool, dead_letters: DeadLetters
) -> None:
    """As a release that knew no version 1 would have left it."""
    wallet = await own_doors.api.create_wallet()
    key = uuid4().hex
    letter_id = await _stored_by_an_older_release(
        own_doors, orjson.dumps(requested(deposit(wallet, "3.00"), key=key))
    )

    first = await dead_letters.replay(letter_id, actor="test")
    second = await dead_letters.replay(letter_id, actor="test")

    assert (first.fate, second.fate) == ("replayed", "unchanged")
    assert await _ended(books, key) == "COMPLETED"
    assert await own_doors.api.balance(wallet) == "3.00"


async def _stored_by_an_older_release(own_doors: CheckedDoors, body: bytes) -> UUID:
    connection = await connect(own_doors.database_url, name="test")
    try:
        return await store(
            connection, body, reason=DeadLetterReason.UNKNOWN_VERSION, submitter="demo"
        )
    finally:
        await connection.close()
