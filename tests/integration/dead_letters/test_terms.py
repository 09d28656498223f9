"""Replays of messages whose transactions are more than plain moves."""

from typing import Any
from uuid import uuid4

import orjson

from contracts.representations.pages import DeadLetterFate
from dead_letters.operations import DeadLetters
from runtime.postgres.pool import Connection
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
