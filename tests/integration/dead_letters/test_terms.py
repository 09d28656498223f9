"""Replays of messages whose transactions are more than plain moves."""

from typing import Any
from uuid import UUID, uuid4

import orjson

from contracts.dead_letters import DeadLetterFate
from contracts.record import posting_partition
from dead_letters.operations import DeadLetters
from processor.poster import Poster
from runtime.postgres.pool import Connection, Pool
from tests.integration.dead_letters.conftest import PARTITIONS
from tests.integration.dead_letters.letters import deposit, store

_WALLET = "11111111-1111-4111-8111-111111111111"


def _batch(*transactions: dict[str, Any], mode: str = "atomic") -> bytes:
    return orjson.dumps({"version": 1, "mode": mode, "transactions": transactions})


def _hold(key: str) -> dict[str, Any]:
    return {
        "idempotency_key": key,
        "type": "hold",
        "source_wallet_id": _WALLET,
        "amount": "10.00",
        "currency": "EUR",
    }


async def test_terms_are_recorded_and_what_is_named_is_looked_up(
    database: Connection, dead_letters: DeadLetters
) -> None:
    held = await dead_letters.replay(
        await store(database, orjson.dumps({"version": 1, **_hold("h")})), actor="test"
    )
    capture = {"idempotency_key": "c", "type": "capture", "hold_id": str(held.transaction_ids[0])}
    unknown = {"idempotency_key": "u", "type": "release", "hold_id": str(uuid4())}
    body = _batch(capture, unknown, deposit("d"), mode="independent")
    outcome = await dead_letters.replay(await store(database, body), actor="test")

    rows = await database.fetch(
        "SELECT type::text, source_wallet_id::text, amount, currency, has_terms, hold_id IS NULL "
        "FROM transaction_views ORDER BY id"
    )
    assert outcome.fate is DeadLetterFate.REPLAYED
    assert [tuple(row) for row in rows] == [
        ("hold", _WALLET, 1_000, "EUR", True, True),
        ("capture", _WALLET, None, "EUR", True, False),
        ("release", None, None, None, True, False),
        ("deposit", rows[3]["source_wallet_id"], 1_000, "EUR", None, True),
    ]


async def test_an_amount_that_does_not_fit_what_is_named_stays_poison(
    database: Connection, dead_letters: DeadLetters
) -> None:
    held = await dead_letters.replay(
        await store(database, orjson.dumps({"version": 1, **_hold("h")})), actor="test"
    )
    capture = {
        "version": 1,
        "idempotency_key": "c",
        "type": "capture",
        "hold_id": str(held.transaction_ids[0]),
        "amount": "1.001",
    }
    outcome = await dead_letters.replay(await store(database, orjson.dumps(capture)), actor="test")

    assert outcome.fate is DeadLetterFate.REFUSED
    assert outcome.detail == "invalid_message: /amount: EUR has 2 decimals, the amount has more"
    assert await database.fetchval("SELECT count(*) FROM transactions") == 1


async def test_an_atomic_batch_is_recorded_as_a_whole_or_not_at_all(
    database: Connection, dead_letters: DeadLetters
) -> None:
    whole = _batch(deposit("1"), deposit("2"))
    first, second = [
        await dead_letters.replay(await store(database, whole), actor="test") for _ in range(2)
    ]
    other = await dead_letters.replay(
        await store(database, _batch(deposit("3"), deposit("2"))), actor="test"
    )
    batches = await database.fetch("SELECT batch_id FROM transaction_views")

    assert first.fate is second.fate is DeadLetterFate.REPLAYED
    assert first.transaction_ids == second.transaction_ids
    assert (other.fate, other.transaction_ids) == (DeadLetterFate.REFUSED, ())
    assert other.detail == "1 keys of the atomic batch stand for other content"
    assert len(batches) == 2
    assert len(set(batches)) == 1
    assert batches[0]["batch_id"] is not None


# What was set aside


async def _quarantined_batch(
    pool: Pool, database: Connection, dead_letters: DeadLetters
) -> tuple[UUID, list[UUID]]:
    """Return the dead letter of an atomic batch that was set aside, and its members in order."""
    body = _batch(*(deposit(uuid4().hex) for _ in range(3)))
    recorded = await dead_letters.replay(await store(database, body), actor="test")
    members = list(recorded.transaction_ids)

    async def bury(_: UUID | None) -> None:
        """The letter is stored below, as its collector would."""

    partition = posting_partition(None, UUID(_WALLET), "EUR", is_reversal=False, count=PARTITIONS)
    poster = Poster(pool, partition=partition, partitions=PARTITIONS)
    assert await poster.quarantine(members[1], bury=bury) == members[1]
    letter = await store(database, b"{}", reason="quarantined", transaction_id=members[1])
    assert await _ends(database, members) == ["QUARANTINED"] * 3
    return letter, members


async def _ends(database: Connection, ids: list[UUID]) -> list[str]:
    rows = await database.fetch(
        "SELECT id, coalesce(failure_code::text, status::text) AS became FROM transactions"
    )
    found = {row["id"]: row["became"] for row in rows}
    return [found[one] for one in ids]


async def test_an_atomic_batch_leaves_quarantine_as_a_whole(
    pool: Pool, database: Connection, dead_letters: DeadLetters
) -> None:
    letter, members = await _quarantined_batch(pool, database, dead_letters)
    outcome = await dead_letters.replay(letter, actor="test")

    assert await _ends(database, members) == ["PENDING"] * 3
    assert sorted(outcome.transaction_ids) == sorted(members)
    assert outcome.detail == "posted again"
    assert await database.fetchval("SELECT count(*) FROM exceptional_transactions") == 0


async def test_an_atomic_batch_is_given_up_as_a_whole(
    pool: Pool, database: Connection, dead_letters: DeadLetters
) -> None:
    letter, members = await _quarantined_batch(pool, database, dead_letters)
    outcome = await dead_letters.discard(letter, actor="test")

    assert await _ends(database, members) == ["batch_failed", "discarded", "batch_failed"]
    assert outcome.transaction_ids == tuple(members)
    assert outcome.detail == "given up: the 3 transactions of its atomic batch FAILED"
    owed = await database.fetch(
        "SELECT transaction_ids FROM outbox WHERE event_type = 'failed' ORDER BY id"
    )
    assert [list(row["transaction_ids"]) for row in owed] == [members]
