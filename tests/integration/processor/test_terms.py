"""Posting transactions with terms: holds, captures, reversals, journals, batches, conditions."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from contracts.identifiers import external_wallet_id
from ledger.words import MINOR_MAX
from processor.book import BookViews
from processor.deciding import WalletCache
from processor.events.buffer import EventBuffer
from processor.events.messages import build, stretch_of
from processor.events.owed import owed_by
from processor.poster import BatchResult, Poster
from runtime.postgres.pool import Connection
from tests.integration.processor.books import add_wallets, open_pool
from tests.support import eventually

_RECORD = """
SELECT id FROM record_transactions_with_terms(
    'http', ARRAY['test'], ARRAY[$1::text], ARRAY['\\x00'::bytea], ARRAY[$2::text],
    ARRAY[$3::uuid], ARRAY[$4::uuid], ARRAY[$5::bigint], ARRAY[$6::text], ARRAY[NULL::text],
    ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[$7::text]
)
"""
_WALLET = "SELECT balance, held, version FROM wallets WHERE id = $1"
_HAS_EXPIRED = "SELECT expires_at <= clock_timestamp() FROM holds WHERE transaction_id = $1"
_FORMER_WRITE = """
SELECT write_posting(
    latest_change => now(),
    wallet_ids => array_agg(id ORDER BY id),
    balances => array_agg(balance ORDER BY id),
    versions => array_agg(version + 1 ORDER BY id),
    row_versions => array_agg(xmin ORDER BY id),
    posted_ids => ARRAY[$3::uuid],
    sources => ARRAY[$1::uuid],
    destinations => ARRAY[$2::uuid],
    amounts => ARRAY[1::bigint],
    source_sequences => ARRAY[1::bigint],
    destination_sequences => ARRAY[1::bigint],
    source_balances => ARRAY[9999::bigint],
    destination_balances => ARRAY[10001::bigint],
    refused_ids => '{}',
    codes => '{}',
    details => '{}'
)
FROM wallets WHERE id IN ($1::uuid, $2::uuid)
"""
_EXTERNAL = external_wallet_id("USD")


@dataclass
class Shop:
    """Two wallets with 100.00 USD each, and a poster."""

    database: Connection
    poster: Poster
    alice: UUID
    bob: UUID
    buffer: EventBuffer
    last: BatchResult | None = field(default=None, init=False)

    async def record(
        self,
        kind: str,
        source: UUID | None = None,
        destination: UUID | None = None,
        amount: int | None = None,
        **terms: Any,
    ) -> UUID:
        """Record a transaction as the doors do."""
        text = orjson.dumps(terms, default=str).decode() if terms or kind not in _PLAIN else None
        currency = None if kind == "journal" else "USD"
        row = await self.database.fetchrow(
            _RECORD, str(uuid4()), kind, source, destination, amount, currency, text
        )
        assert row is not None
        transaction_id: UUID = row["id"]
        return transaction_id

    async def post(self, *ids: UUID) -> list[str]:
        """Post recorded transactions in one batch; return what each came to."""
        self.last = await self.poster.post(ids)
        rows = await self.database.fetch(
            "SELECT id, status::text, failure_code::text FROM transactions WHERE id = ANY ($1)", ids
        )
        found = {row["id"]: row["failure_code"] or row["status"] for row in rows}
        return [found[one] for one in ids]

    async def hold(self, amount: int, expires_in_s: int = 60) -> UUID:
        """Record a hold on Alice's wallet for Bob."""
        return await self.record("hold", self.alice, self.bob, amount, expires_in_s=expires_in_s)

    async def capture(self, hold: UUID, amount: int | None = None, **terms: Any) -> UUID:
        """Record a capture for Bob."""
        return await self.record("capture", self.alice, self.bob, amount, hold_id=hold, **terms)

    async def wallet(self, wallet_id: UUID) -> tuple[int, int]:
        """Return balance and held."""
        row = await self.database.fetchrow(_WALLET, wallet_id)
        assert row is not None
        return row["balance"], row["held"]

    async def events(self) -> list[str]:
        """Return the types of the events owed, in order."""
        rows = await self.database.fetch("SELECT event_type FROM outbox ORDER BY id")
        return [row["event_type"] for row in rows]


_PLAIN = ("deposit", "withdrawal", "transfer")


@pytest.fixture
async def shop(database: Connection, database_url: str) -> AsyncIterator[Shop]:
    alice, bob = await add_wallets(database, 2, balance=10_000)
    async with open_pool(database_url) as pool:
        buffer = EventBuffer()
        poster = Poster(pool, wallet_cache=WalletCache(), event_buffer=buffer)
        yield Shop(database, poster, alice, bob, buffer)


async def test_a_hold_reserves_and_a_capture_of_a_part_frees_the_rest(shop: Shop) -> None:
    hold = await shop.hold(6_000)
    assert await shop.post(hold) == ["COMPLETED"]
    assert await shop.wallet(shop.alice) == (10_000, 6_000)

    too_much = await shop.record("transfer", shop.alice, shop.bob, 4_001)
    capture = await shop.capture(hold, 2_500)
    assert await shop.post(too_much, capture) == ["insufficient_funds", "COMPLETED"]

    assert await shop.wallet(shop.alice) == (7_500, 0)
    assert await shop.wallet(shop.bob) == (12_500, 0)
    assert await shop.post(await shop.capture(hold, 1)) == ["hold_closed"]


async def test_a_hold_and_its_captures_may_stand_in_one_batch(shop: Shop) -> None:
    hold = await shop.hold(6_000)
    first = await shop.capture(hold, 1_000, is_final=False)
    second = await shop.capture(hold)
    third = await shop.record("release", shop.alice, hold_id=hold)

    assert await shop.post(hold, first, second, third) == [*["COMPLETED"] * 3, "hold_closed"]
    assert await shop.wallet(shop.alice) == (4_000, 0)
    amount = await shop.database.fetchval("SELECT amount FROM transactions WHERE id = $1", second)
    assert amount == 5_000


async def test_a_release_frees_what_is_left(shop: Shop) -> None:
    hold = await shop.hold(6_000)
    part = await shop.capture(hold, 1_000, is_final=False)
    release = await shop.record("release", shop.alice, hold_id=hold)

    assert await shop.post(hold, part) == ["COMPLETED", "COMPLETED"]
    assert await shop.wallet(shop.alice) == (9_000, 5_000)
    assert await shop.post(release) == ["COMPLETED"]
    assert await shop.wallet(shop.alice) == (9_000, 0)


async def test_an_expired_hold_is_worth_nothing_from_its_instant_on(shop: Shop) -> None:
    hold = await shop.hold(10_000, expires_in_s=1)
    assert await shop.post(hold) == ["COMPLETED"]

    async def has_expired() -> bool:
        return bool(await shop.database.fetchval(_HAS_EXPIRED, hold))

    await eventually(has_expired, what="its expiry")
    transfer = await shop.record("transfer", shop.alice, shop.bob, 10_000)
    capture = await shop.capture(hold, 1)

    assert await shop.post(transfer, capture) == ["COMPLETED", "hold_expired"]
    assert await shop.wallet(shop.alice) == (0, 0)
    assert "hold_expired" in await shop.events()


async def test_a_transaction_is_reversed_in_parts_and_never_by_more(shop: Shop) -> None:
    transfer = await shop.record("transfer", shop.alice, shop.bob, 5_000)

    async def reversal(amount: int | None = None) -> UUID:
        return await shop.record("reversal", shop.bob, shop.alice, amount, reverses=transfer)

    first, second, third = await reversal(2_000), await reversal(3_001), await reversal()
    fourth = await reversal()
    assert await shop.post(transfer, first, second, third, fourth) == [
        "REVERSED",
        "COMPLETED",
        "amount_exceeds_reversible",
        "COMPLETED",
        "already_reversed",
    ]
    assert await shop.wallet(shop.alice) == (10_000, 0)
    view = await shop.database.fetchrow("SELECT * FROM transaction_views WHERE id = $1", transfer)
    assert view is not None
    assert (view["reversed_by"], view["reversed_amount"]) == (third, 5_000)
    assert sorted(view["reversals"]) == sorted([first, third])
    assert await shop.post(await shop.record("reversal", reverses=uuid4())) == [
        "transaction_not_found"
    ]


async def test_a_forced_reversal_overdraws_and_nothing_else_does(shop: Shop) -> None:
    deposit = await shop.record("deposit", _EXTERNAL, shop.alice, 5_000)
    spent = await shop.record("transfer", shop.alice, shop.bob, 15_000)
    polite = await shop.record("reversal", shop.alice, _EXTERNAL, reverses=deposit)
    forced = await shop.record("reversal", shop.alice, _EXTERNAL, reverses=deposit, is_forced=True)

    outcomes = await shop.post(deposit, spent, polite, forced)

    assert outcomes == ["REVERSED", "COMPLETED", "insufficient_funds", "COMPLETED"]
    assert await shop.wallet(shop.alice) == (-5_000, 0)
    assert await shop.post(await shop.record("transfer", shop.alice, shop.bob, 1)) == [
        "insufficient_funds"
    ]


def _legs(*legs: tuple[UUID, int]) -> list[dict[str, Any]]:
    return [
        {
            "wallet_id": str(wallet_id),
            "currency": "USD",
            "amount": amount,
            "is_external": wallet_id == _EXTERNAL,
        }
        for wallet_id, amount in legs
    ]


async def _journal(shop: Shop, *legs: tuple[UUID, int]) -> UUID:
    first, second = legs[0][0], legs[1][0]
    return await shop.record("journal", first, second, legs=_legs(*legs))


async def test_a_journal_is_posted_and_reversed_as_a_whole(shop: Shop) -> None:
    [fees] = await add_wallets(shop.database, 1)
    journal = await _journal(
        shop, (shop.alice, -10_500), (shop.bob, 10_000), (fees, 300), (shop.alice, 200)
    )
    assert await shop.post(journal) == ["insufficient_funds"]
    journal = await _journal(
        shop, (shop.alice, -10_200), (shop.bob, 9_000), (_EXTERNAL, 1_000), (shop.alice, 200)
    )
    reversal = await shop.record("reversal", shop.bob, shop.alice, reverses=journal)
    part = await shop.record("reversal", shop.bob, shop.alice, 1, reverses=journal)

    assert await shop.post(journal) == ["COMPLETED"]
    assert await shop.wallet(shop.alice) == (0, 0)
    assert await shop.wallet(shop.bob) == (19_000, 0)
    assert await shop.post(part, reversal) == ["not_reversible", "COMPLETED"]
    assert await shop.wallet(shop.alice) == (10_000, 0)
    total = await shop.database.fetchval("SELECT sum(amount) FROM entries")
    assert total == 0


async def test_an_atomic_batch_succeeds_or_fails_as_one(shop: Shop) -> None:
    async def batch(*amounts: int) -> Sequence[UUID]:
        batch_id = str(uuid4())
        return [
            await shop.record("transfer", shop.alice, shop.bob, one, batch_id=batch_id)
            for one in amounts
        ]

    good, bad = await batch(4_000, 4_000), await batch(1_000, 1_500, 1)
    # A member that is delivered alone brings the others with it.
    assert await shop.post(good[1]) == ["COMPLETED"]
    assert await shop.wallet(shop.alice) == (2_000, 0)
    assert await shop.post(*bad) == ["batch_failed", "insufficient_funds", "batch_failed"]
    assert await shop.post(*good) == ["COMPLETED", "COMPLETED"]


async def test_conditions_see_the_version_before_and_the_amounts_after(shop: Shop) -> None:
    alice = str(shop.alice)

    async def under(**condition: Any) -> UUID:
        conditions = [{"wallet_id": alice, **condition}]
        return await shop.record("transfer", shop.alice, shop.bob, 1_000, conditions=conditions)

    batch = [
        await under(version=0, available_at_least="90.00", balance_at_most="90"),
        await under(version=0),
        await under(available_at_least="80.001"),
        await under(balance_at_most="79.99"),
        await under(available_at_least="80"),
    ]
    assert await shop.post(*batch) == ["COMPLETED", *["condition_failed"] * 3, "COMPLETED"]


async def test_what_came_too_late_is_not_posted(shop: Shop) -> None:
    late = await shop.record(
        "transfer", shop.alice, shop.bob, 1, valid_until="2026-01-01T00:00:00Z"
    )
    assert await shop.post(late) == ["expired"]


async def test_plain_moves_beside_holds_keep_wallets_in_memory_true(shop: Shop) -> None:
    plain = await shop.record("transfer", shop.alice, shop.bob, 1_000)
    assert await shop.post(plain) == ["COMPLETED"]
    hold = await shop.hold(9_000)
    assert await shop.post(hold) == ["COMPLETED"]

    refused = await shop.record("transfer", shop.alice, shop.bob, 1)
    assert await shop.post(refused) == ["insufficient_funds"]


async def test_a_processor_of_the_release_before_cannot_post_what_has_terms(shop: Shop) -> None:
    late = await shop.record(
        "transfer", shop.alice, shop.bob, 1, valid_until="2026-01-01T00:00:00Z"
    )
    with pytest.raises(asyncpg.PostgresError, match="expected 1 completed, changed 0"):
        await shop.database.execute(_FORMER_WRITE, shop.alice, shop.bob, late)

    assert await shop.wallet(shop.alice) == (10_000, 0)
    assert await shop.post(late) == ["expired"]


async def test_events_from_memory_are_those_from_the_tables(shop: Shop) -> None:
    hold = await shop.hold(6_000)
    part = await shop.capture(hold, 1_000, is_final=False)
    release = await shop.record("release", shop.alice, hold_id=hold)
    transfer = await shop.record(
        "transfer", shop.alice, shop.bob, 5, valid_until="2126-01-01T00:00:00Z"
    )
    back = await shop.record("reversal", shop.bob, shop.alice, reverses=transfer)
    journal = await _journal(shop, (shop.alice, -300), (shop.bob, 200), (_EXTERNAL, 100))
    batch = [
        await shop.record("transfer", shop.alice, shop.bob, 1, batch_id=str(UUID(int=one)))
        for one in (1, 1)
    ]
    plain = await shop.record("transfer", shop.alice, shop.bob, 7)
    await shop.post(hold, part, release, transfer, back, journal, *batch, plain)

    row = await shop.database.fetchrow(
        "SELECT *, wallets::text FROM outbox WHERE event_type = 'completed'"
    )
    assert row is not None
    owed = owed_by(row)
    remembered = shop.buffer.get(owed.outbox_id)
    read = await shop.database.fetch(
        "SELECT * FROM transaction_views WHERE id = ANY ($1)", owed.transaction_ids
    )
    tables = {one["id"]: one for one in read}

    assert isinstance(remembered, BookViews)
    assert len(tables) == 9
    from_memory, from_tables = (build([stretch_of(owed, one)]) for one in (remembered, tables))
    assert (from_memory.broken, from_tables.broken) == ({}, {})
    for one, other in zip(from_memory.messages, from_tables.messages, strict=True):
        assert orjson.loads(one.body) == orjson.loads(other.body)
        assert one == other


# At the limit of 64 bits


async def _set(shop: Shop, wallet: UUID, **columns: Any) -> None:
    """Set amounts of a wallet, or its kind, which it takes thousands of transactions to reach."""
    changes = ", ".join(f"{name} = ${place}" for place, name in enumerate(columns, start=2))
    await shop.database.execute(
        f"UPDATE wallets SET {changes} WHERE id = $1", wallet, *columns.values()
    )


async def test_a_journal_touches_one_wallet_six_times_and_its_limit_counts_at_the_end(
    shop: Shop,
) -> None:
    alice, bob = shop.alice, shop.bob
    steps = [-12_000, 5_000, -9_000, 8_000, -1_000, 9_000]
    journal = await _journal(shop, *[(alice, one) for one in steps])
    over = await _journal(shop, *[(alice, one) for one in steps], (alice, -10_001), (bob, 10_001))

    assert await shop.post(journal, over) == ["COMPLETED", "insufficient_funds"]
    entries = await shop.database.fetch(
        "SELECT sequence, amount, balance_after FROM entries WHERE wallet_id = $1 "
        "ORDER BY sequence",
        alice,
    )
    assert [row["amount"] for row in entries] == steps
    assert [row["balance_after"] for row in entries] == [-2000, 3000, -6000, 2000, 1000, 10_000]
    assert [row["sequence"] for row in entries] == [1, 2, 3, 4, 5, 6]


async def test_a_balance_between_two_legs_has_to_fit_too(shop: Shop) -> None:
    alice, bob = shop.alice, shop.bob
    await _set(shop, alice, balance=MINOR_MAX - 5)
    over = await _journal(shop, (alice, 6), (bob, -6), (alice, -6), (bob, 6))
    full = await _journal(shop, *[(bob, -1), (alice, 1)] * 5, *[(alice, -1), (bob, 1)] * 45)

    assert await shop.post(over, full) == ["limit_exceeded", "COMPLETED"]
    assert await shop.wallet(alice) == (MINOR_MAX - 45, 0)


async def test_what_is_available_stays_in_64_bits_below_zero(shop: Shop) -> None:
    alice, bob = shop.alice, shop.bob
    await _set(shop, alice, kind="internal", balance=10 - MINOR_MAX)
    holds = [await shop.record("hold", alice, bob, n, expires_in_s=60) for n in (6, 5, 4)]
    transfer = await shop.record("transfer", alice, bob, 1)

    assert await shop.post(*holds) == ["COMPLETED", "limit_exceeded", "COMPLETED"]
    assert await shop.post(transfer) == ["limit_exceeded"]
    assert await shop.wallet(alice) == (10 - MINOR_MAX, 10)


async def test_a_forced_reversal_overdraws_by_no_more_than_64_bits(shop: Shop) -> None:
    alice, bob = shop.alice, shop.bob
    payment = await shop.record("transfer", bob, alice, 10_000)
    assert await shop.post(payment) == ["COMPLETED"]
    await _set(shop, alice, forced_overdraft=MINOR_MAX, balance=5 - MINOR_MAX)
    back = await shop.record("reversal", reverses=payment, is_forced=True)

    assert await shop.post(back) == ["limit_exceeded"]


async def test_a_reversal_brings_along_what_it_reverses_and_leaves_other_partitions_theirs(
    shop: Shop, database_url: str
) -> None:
    original = await shop.record("transfer", shop.alice, shop.bob, 500)
    elsewhere = await shop.record("transfer", shop.bob, shop.alice, 1)
    back = await shop.record("reversal", shop.bob, shop.alice, reverses=original)
    later = await shop.record("transfer", shop.alice, shop.bob, 1)
    await shop.database.execute("INSERT INTO unannounced_transactions VALUES (0, 'test', $1)", back)
    async with open_pool(database_url) as pool:
        shop.poster = Poster(pool, partition=0, partitions=4)
        await shop.poster.post([later])
    rows = await shop.database.fetch(
        "SELECT status::text FROM transactions WHERE id = ANY ($1) ORDER BY id",
        [original, elsewhere, back, later],
    )
    assert [row["status"] for row in rows] == ["REVERSED", "PENDING", "COMPLETED", "COMPLETED"]
