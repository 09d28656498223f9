"""Operators replay dead letters and discard them; each act leaves a trail."""

import asyncio
from uuid import UUID

import pytest

from contracts.dead_letters import DeadLetterFate, DeadLetterState
from contracts.messages import RECORDED_TYPE, encode_recorded
from contracts.topology import partition_queue
from dead_letters.model import DeadLetterFilter
from dead_letters.operations import DeadLetters
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Connection, Pool
from tests.integration.dead_letters.conftest import PARTITIONS
from tests.integration.dead_letters.letters import (
    audited,
    deposit,
    quarantine,
    requested,
    status_of,
    store,
)
from tests.integration.reconciler.pending import record_pending, taken_ids


async def _published(channel: Channel) -> list[UUID]:
    groups = [g for n in range(PARTITIONS) for g in await taken_ids(channel, partition_queue(n))]
    return [one for group in groups for one in group]


async def _counts(database: Connection) -> dict[str, int]:
    """Return the rows of every table that an operator's act can touch."""
    tables = (
        "transactions",
        "exceptional_transactions",
        "stale_transactions",
        "outbox",
        "audit_log",
    )
    return {
        table: await database.fetchval(f"SELECT count(*) FROM {table}")  # our names
        for table in tables
    }


# Replaying


async def test_a_replay_records_under_the_original_key_and_submitter(
    database: Connection, dead_letters: DeadLetters, channel: Channel
) -> None:
    dead_letter_id = await store(database, requested(deposit("key-1")), submitter="shop")

    outcome = await dead_letters.replay(dead_letter_id, actor="cli:ann")

    [row] = await database.fetch("SELECT * FROM transactions")
    assert outcome.fate is DeadLetterFate.REPLAYED
    assert outcome.transaction_ids == (row["id"],)
    assert (row["submitter"], row["idempotency_key"], row["status"]) == ("shop", "key-1", "PENDING")
    assert await _published(channel) == [row["id"]]
    assert (await dead_letters.show(dead_letter_id)).state is DeadLetterState.REPLAYED
    assert await audited(database, dead_letter_id) == [("cli:ann", "dead_letter.replayed")]


async def test_a_batch_is_replayed_in_its_order(
    database: Connection, dead_letters: DeadLetters, channel: Channel
) -> None:
    body = requested(*(deposit(f"key-{number}") for number in range(20)))

    outcome = await dead_letters.replay(await store(database, body), actor="test")

    rows = await database.fetch("SELECT id, idempotency_key FROM transactions ORDER BY id")
    assert [row["idempotency_key"] for row in rows] == [f"key-{number}" for number in range(20)]
    assert list(outcome.transaction_ids) == [row["id"] for row in rows]
    assert await _published(channel) == [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("body", "submitter", "named"),
    [
        (b"not json", "shop", "not_json"),
        (requested({**deposit(), "amount": "0"}), "shop", "invalid_message"),
        (b'{"version": 9}', "shop", "unknown_version"),
        (requested(deposit()), None, "submitter_missing"),
    ],
)
async def test_what_is_still_poison_is_refused_and_stays_open(
    database: Connection,
    dead_letters: DeadLetters,
    body: bytes,
    submitter: str | None,
    named: str,
) -> None:
    dead_letter_id = await store(database, body, submitter=submitter)

    outcome = await dead_letters.replay(dead_letter_id, actor="test")

    assert outcome.fate is DeadLetterFate.REFUSED
    assert named in outcome.detail
    assert (await dead_letters.show(dead_letter_id)).state is DeadLetterState.OPEN
    assert await audited(database, dead_letter_id) == [("test", "dead_letter.replay_refused")]
    assert await database.fetchval("SELECT count(*) FROM transactions") == 0


async def test_a_replay_of_a_key_that_was_completed_changes_nothing(
    database: Connection, dead_letters: DeadLetters, channel: Channel
) -> None:
    first, second = [await store(database, requested(deposit("key-1"))) for _ in range(2)]
    await dead_letters.replay(first, actor="test")
    await _published(channel)
    await database.execute(
        "UPDATE transactions SET status = 'COMPLETED', completed_at = clock_timestamp()"
    )
    await database.execute("DELETE FROM stale_transactions")
    before = await database.fetch("SELECT * FROM transactions")

    outcome = await dead_letters.replay(second, actor="test")

    assert outcome.fate is DeadLetterFate.REPLAYED
    assert outcome.detail == "1 ended before: nothing was changed"
    assert outcome.transaction_ids == (before[0]["id"],)
    assert await database.fetch("SELECT * FROM transactions") == before
    assert await _published(channel) == []
    assert await database.fetchval("SELECT count(*) FROM stale_transactions") == 0


async def test_a_key_that_stands_for_other_content_is_refused_and_its_neighbours_go_on(
    database: Connection, dead_letters: DeadLetters
) -> None:
    first = await store(database, requested(deposit("key-1", amount="1.00")))
    await dead_letters.replay(first, actor="test")
    body = requested(deposit("key-1", amount="2.00"), deposit("key-2"))
    second = await store(database, body)

    outcome = await dead_letters.replay(second, actor="test")

    keys = await database.fetch("SELECT idempotency_key FROM transactions ORDER BY id")
    assert outcome.fate is DeadLetterFate.REFUSED
    assert "key-1" in outcome.detail
    assert [row["idempotency_key"] for row in keys] == ["key-1", "key-2"]
    assert (await dead_letters.show(second)).state is DeadLetterState.OPEN


async def test_a_quarantined_transaction_is_released_and_published(
    database: Connection, dead_letters: DeadLetters, channel: Channel
) -> None:
    [transaction_id] = await record_pending(database, 1)
    await quarantine(database, transaction_id)
    dead_letter_id = await store(
        database,
        encode_recorded([transaction_id]),
        reason="quarantined",
        transaction_id=transaction_id,
        message_type=RECORDED_TYPE,
    )

    outcome = await dead_letters.replay(dead_letter_id, actor="test")

    assert outcome.fate is DeadLetterFate.REPLAYED
    assert await status_of(database, transaction_id) == "PENDING"
    assert await _published(channel) == [transaction_id]
    assert await _counts(database) == {
        "transactions": 1,
        "exceptional_transactions": 0,
        # Should the message be lost, the reconciler publishes it: its sweep is past this id.
        "stale_transactions": 1,
        "outbox": 0,
        "audit_log": 1,
    }


async def test_a_buried_group_is_published_again_as_far_as_it_is_pending(
    database: Connection, dead_letters: DeadLetters, channel: Channel
) -> None:
    ids = await record_pending(database, 3)
    await database.execute("UPDATE transactions SET status = 'COMPLETED' WHERE id = $1", ids[0])
    await quarantine(database, ids[1])
    dead_letter_id = await store(
        database, encode_recorded(ids), submitter=None, message_type=RECORDED_TYPE
    )

    outcome = await dead_letters.replay(dead_letter_id, actor="test")

    assert outcome.detail == ("1 of 3 posted again; nothing is left to be done for the others")
    # The quarantined one has a dead letter of its own.
    assert await _published(channel) == [ids[2]]
    assert await status_of(database, ids[1]) == "QUARANTINED"


async def test_a_replay_without_a_broker_is_left_to_the_reconciler(
    pool: Pool, database: Connection, broker_url: str
) -> None:
    unconnected = DeadLetters(
        pool=pool, publisher=Publisher(broker_url, name="test"), partitions=PARTITIONS
    )
    dead_letter_id = await store(database, requested(deposit()))

    outcome = await unconnected.replay(dead_letter_id, actor="test")

    stale = await database.fetch("SELECT transaction_id FROM stale_transactions")
    assert outcome.fate is DeadLetterFate.REPLAYED
    assert tuple(row["transaction_id"] for row in stale) == outcome.transaction_ids


async def test_a_filter_selects_oldest_first_beyond_one_page(
    database: Connection, dead_letters: DeadLetters
) -> None:
    ids = [await store(database, b"", reason="not_json") for _ in range(201)]
    await store(database, b"", reason="unknown")

    selected = [one async for one in dead_letters.select(DeadLetterFilter(reason="not_json"))]

    assert selected == ids


# Discarding


async def test_discarding_fails_a_quarantined_transaction_and_owes_the_event(
    database: Connection, dead_letters: DeadLetters
) -> None:
    [transaction_id] = await record_pending(database, 1)
    await quarantine(database, transaction_id)
    dead_letter_id = await store(
        database, b"{}", reason="quarantined", transaction_id=transaction_id
    )

    outcome = await dead_letters.discard(dead_letter_id, actor="cli:ann")

    [row] = await database.fetch("SELECT * FROM transactions")
    [owed] = await database.fetch("SELECT * FROM outbox")
    listed = await database.fetch(
        "SELECT status::text, transaction_id FROM exceptional_transactions"
    )
    assert outcome.fate is DeadLetterFate.DISCARDED
    assert outcome.transaction_ids == (transaction_id,)
    assert (row["status"], row["failure_code"]) == ("FAILED", "discarded")
    assert row["completed_at"] is not None
    assert (owed["event_type"], owed["transaction_ids"]) == ("failed", [transaction_id])
    assert [tuple(one) for one in listed] == [("FAILED", transaction_id)]
    assert (await dead_letters.show(dead_letter_id)).state is DeadLetterState.DISCARDED
    assert await audited(database, dead_letter_id) == [("cli:ann", "dead_letter.discarded")]


@pytest.mark.parametrize("status", ["PENDING", "COMPLETED", "FAILED", "REVERSED"])
async def test_discarding_leaves_any_other_transaction_alone(
    database: Connection, dead_letters: DeadLetters, status: str
) -> None:
    [transaction_id] = await record_pending(database, 1)
    await database.execute("UPDATE transactions SET status = $1::transaction_status", status)
    dead_letter_id = await store(database, b"{}", transaction_id=transaction_id)

    outcome = await dead_letters.discard(dead_letter_id, actor="test")

    assert outcome.fate is DeadLetterFate.DISCARDED
    assert await status_of(database, transaction_id) == status
    assert await database.fetchval("SELECT count(*) FROM outbox") == 0


# Both


async def test_a_dry_run_tells_what_would_happen_and_changes_nothing(
    database: Connection, dead_letters: DeadLetters, channel: Channel
) -> None:
    [transaction_id] = await record_pending(database, 1)
    await quarantine(database, transaction_id)
    quarantined = await store(database, b"{}", transaction_id=transaction_id)
    valid = await store(database, requested(deposit()))
    poison = await store(database, b"not json")
    before = await _counts(database)

    fates = [
        (await dead_letters.replay(one, actor="test", dry_run=True)).fate
        for one in (quarantined, valid, poison)
    ]
    discarded = await dead_letters.discard(quarantined, actor="test", dry_run=True)

    assert fates == [DeadLetterFate.REPLAYED, DeadLetterFate.REPLAYED, DeadLetterFate.REFUSED]
    assert discarded.fate is DeadLetterFate.DISCARDED
    assert await _counts(database) == before
    assert await status_of(database, transaction_id) == "QUARANTINED"
    assert await _published(channel) == []
    assert len((await dead_letters.page(DeadLetterFilter())).items) == 3


async def test_what_is_done_with_is_not_done_again(
    database: Connection, dead_letters: DeadLetters
) -> None:
    replayed = await store(database, requested(deposit()))
    discarded = await store(database, b"not json")
    await dead_letters.replay(replayed, actor="test")
    await dead_letters.discard(discarded, actor="test")
    before = await _counts(database)

    outcomes = [
        await act(one, actor="test")
        for one in (replayed, discarded)
        for act in (dead_letters.replay, dead_letters.discard)
    ]

    assert {outcome.fate for outcome in outcomes} == {DeadLetterFate.UNCHANGED}
    assert await _counts(database) == before


async def test_two_operators_at_once_replay_one_dead_letter_once(
    database: Connection, dead_letters: DeadLetters, channel: Channel
) -> None:
    dead_letter_id = await store(database, requested(deposit()))

    outcomes = await asyncio.gather(
        *(dead_letters.replay(dead_letter_id, actor=f"test-{number}") for number in range(4))
    )

    assert sorted(outcome.fate for outcome in outcomes) == [
        DeadLetterFate.REPLAYED,
        *[DeadLetterFate.UNCHANGED] * 3,
    ]
    assert len(await _published(channel)) == 1
    assert len(await audited(database, dead_letter_id)) == 1
