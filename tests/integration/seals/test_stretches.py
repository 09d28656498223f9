"""A stretch that is read together gives what looking up each transaction by its key gives."""

from uuid import UUID

import pytest

from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries
from tests.integration.seals.sealing import Database, post, record_transfers, seal_all, sealer_of
from tests.integration.verification.books import write_books
from verification.seals import LEAF_BYTES, Leaves, read_leaves
from verification.stretches import LookedUpLeaves, Pages, Stretch, look_ahead, read_stretch

ALL = UUID(int=2**128 - 1)
NOTHING = UUID(int=0)
NOWHERE = Pages(0, 0)


@pytest.fixture
async def books(database: Database) -> Database:
    """3,000 transfers on some seventy pages of entries, one reversed, and one of every status."""
    await write_books(database, transactions=3_000, wallets=200)
    return database


async def _stretch(database: Database, pages: Pages, *, patience_s: float = 0) -> Stretch:
    async with database.transaction():
        return await read_stretch(database, NOTHING, ALL, pages, patience_s=patience_s)


async def _by_key(database: Database, ids: list[UUID]) -> Leaves:
    return (await read_leaves(database, {0: ids}))[0]


def test_every_statement_makes_a_leaf_of_the_same_rows() -> None:
    queries = load_queries("verification")
    leaves = [
        queries[name].partition("sha256(")[2].partition("END AS digest")[0]
        for name in ("read_leaves", "stream_leaves", "read_stretch")
    ]

    assert "record_send(row(" in leaves[0]
    assert set(leaves) == {leaves[0]}


async def test_wherever_the_entries_are_looked_for_the_leaves_are_the_same(
    books: Database,
) -> None:
    ended = await books.fetch(
        "SELECT id FROM transactions WHERE status NOT IN ('PENDING', 'QUARANTINED') ORDER BY id"
    )
    ids = [row["id"] for row in ended]
    expected = await _by_key(books, ids)
    ahead = await look_ahead(books, NOTHING, ALL, most=10_000)
    assert ahead.pages.behind > 60
    assert expected.transactions == len(ids)
    assert bytes(LEAF_BYTES) not in expected.digests

    for pages in (ahead.pages, NOWHERE, Pages(20, 30), Pages(10_000, 10_010)):
        stretch = await _stretch(books, pages)

        assert stretch.ended == ids, pages
        assert stretch.leaves == expected, pages
        assert len(stretch.open) == 2


async def test_the_entries_are_found_where_they_were_guessed(books: Database) -> None:
    query = load_queries("verification")["read_stretch"]
    ids = [
        row["id"] for row in await books.fetch("SELECT id FROM transactions ORDER BY id LIMIT 2000")
    ]

    ahead = await look_ahead(books, ids[1000], ids[-1], most=900)

    assert (ahead.seen, ahead.last) == (900, ids[1899])
    assert 0 < ahead.pages.first < ahead.pages.behind < 60
    behind, until = (ahead.pages.behind, 0), ids[1900]
    [row] = await books.fetch(query, ids[1000], until, (ahead.pages.first, 0), behind, 0.0)
    assert len(row["ended"]) == 900
    assert len(row["apart"] or []) < 50


async def test_one_that_lies_far_away_from_the_others_does_not_make_the_pages_many(
    books: Database,
) -> None:
    # As what waited for days before it was posted: its entries are among those of others.
    await books.execute(
        "UPDATE transactions SET source_wallet_id = o.source_wallet_id,"
        " source_sequence = o.source_sequence"
        " FROM (SELECT * FROM transactions WHERE idempotency_key = '2900') AS o"
        " WHERE transactions.idempotency_key::text = ANY ($1)",
        [str(number) for number in range(1, 101)],
    )
    rows = await books.fetch("SELECT id FROM transactions ORDER BY id LIMIT 400")

    ahead = await look_ahead(books, rows[0]["id"], rows[-1]["id"], most=400)

    assert ahead.pages.behind < 40
    stretch = await _stretch(books, ahead.pages)
    assert stretch.leaves == await _by_key(books, list(stretch.ended))


async def test_nothing_ahead_is_nothing(database: Database) -> None:
    ahead = await look_ahead(database, NOTHING, ALL, most=5)

    stretch = await _stretch(database, ahead.pages)

    assert (ahead.seen, ahead.last) == (0, None)
    assert stretch == Stretch([], [], Leaves(b"", 0), None)


async def test_the_first_that_is_pending_for_a_moment_is_young(
    database: Database, database_url: str
) -> None:
    ids = await record_transfers(database, 6)
    await post(database_url, [ids[0], ids[1], ids[3]])

    young = await _stretch(database, NOWHERE, patience_s=3600)
    old = await _stretch(database, NOWHERE, patience_s=0)

    assert (young.young, old.young) == (ids[2], None)
    assert young.ended == old.ended == [ids[0], ids[1], ids[3]]
    assert old.open == [ids[2], ids[4], ids[5]]


async def test_what_follows_is_planned_as_before(books: Database) -> None:
    names = ("enable_hashjoin", "enable_nestloop", "plan_cache_mode")
    before = [await books.fetchval("SELECT current_setting($1)", name) for name in names]

    async with books.transaction():
        await read_stretch(books, NOTHING, ALL, NOWHERE, patience_s=0)
        after = [await books.fetchval("SELECT current_setting($1)", name) for name in names]

    assert after == before


@pytest.mark.parametrize("together_min", [1, 10**9])
async def test_the_leaves_of_seals_are_the_same_either_way(
    books: Database, pool: Pool, together_min: int
) -> None:
    # The second seal covers what ended late, before the first one's transactions: no stretch.
    late = await books.fetchval("SELECT id FROM transactions ORDER BY id OFFSET 10 LIMIT 1")
    await books.execute("UPDATE transactions SET status = 'QUARANTINED' WHERE id = $1", late)
    sealer = sealer_of(pool, seal_max=1_000)
    await sealer.run_once()
    await books.execute("UPDATE transactions SET status = 'COMPLETED' WHERE id = $1", late)
    await seal_all(sealer)
    seals = await books.fetch("SELECT number, transaction_ids FROM seals ORDER BY number")
    assert late in seals[1]["transaction_ids"]

    found = await LookedUpLeaves(together_min=together_min).read(books, 1, len(seals))

    assert len(found) == len(seals) > 3
    for seal in seals:
        assert found[seal["number"]] == await _by_key(books, seal["transaction_ids"])
