"""Transactions of every type are sealed, with all their legs, and later ends as they come."""

from uuid import UUID

import asyncpg

from runtime.postgres.pool import Pool
from tests.integration.processor.books import add_wallets
from tests.integration.processor.test_terms import Shop, shop
from tests.integration.seals.sealing import (
    UNGUARD,
    Database,
    checks_of,
    digest_from_tables,
    seal_all,
    sealer_of,
    verified,
)
from verification.checks import Check
from verification.seals import ChainWalk
from verification.stretches import LookedUpLeaves

__all__ = ["shop"]


async def _recomputes(database: Database) -> bool:
    seals = await database.fetch("SELECT * FROM seals ORDER BY number")
    return bool(seals) and all(
        [seal["digest"] == await digest_from_tables(database, seal) for seal in seals]
    )


async def _journal(shop: Shop) -> UUID:
    [fees] = await add_wallets(shop.database, 1)
    moves = ((shop.alice, -1_000), (shop.bob, 700), (fees, 200), (shop.alice, 100))
    legs = [
        {"wallet_id": str(one), "currency": "USD", "amount": amount, "is_external": False}
        for one, amount in moves
    ]
    return await shop.record("journal", shop.alice, shop.bob, legs=legs)


async def test_every_type_is_sealed_as_the_format_has_it(
    shop: Shop, database: Database, pool: Pool
) -> None:
    journal = await _journal(shop)
    refused = await _journal(shop)
    hold = await shop.hold(500)
    await shop.post(journal, hold)
    await database.execute("UPDATE wallets SET status = 'FROZEN' WHERE id = $1", shop.bob)
    await shop.post(refused)
    await database.execute("UPDATE wallets SET status = 'ACTIVE' WHERE id = $1", shop.bob)
    sealer = sealer_of(pool)
    await sealer.run_once()
    part = await shop.capture(hold, 100, is_final=False)
    rest = await shop.record("release", shop.alice, hold_id=hold)
    back = await shop.record("reversal", shop.bob, shop.alice, reverses=journal)
    assert await shop.post(part, rest, back) == ["COMPLETED"] * 3

    await seal_all(sealer)

    assert await database.fetchval("SELECT sum(transactions) FROM seals") == 6
    assert await database.fetchval("SELECT sum(entries) FROM seals") == await database.fetchval(
        "SELECT count(*) FROM entries"
    )
    assert await _recomputes(database)
    # The wallets of these books have their first balances without entries.
    found = checks_of(await verified(database))
    assert found <= {Check.WALLET_BALANCE, Check.ENTRY_CHAIN, Check.CURRENCY_SUM}


async def test_a_leg_of_a_journal_that_was_changed_is_found(
    shop: Shop, database: Database, pool: Pool
) -> None:
    journal = await _journal(shop)
    await shop.post(journal)
    await seal_all(sealer_of(pool))
    await database.execute(UNGUARD)
    for change in (
        "UPDATE transaction_legs SET is_external = true WHERE position = 2",
        "UPDATE entries SET created_at = now() WHERE amount = 200",
    ):
        undone: asyncpg.transaction.Transaction = database.transaction()
        await undone.start()
        await database.execute(change)
        named = await _named_by_the_walk(database)
        await undone.rollback()

        assert f"transaction {journal}" in named, change


async def _named_by_the_walk(database: Database) -> set[str]:
    walk = ChainWalk(trusted=None, leaves=LookedUpLeaves(together_min=1))
    page = await walk.next_page(database)
    assert page is not None
    return {finding.subject for finding in page.findings}
