"""The chain from whole tables, on a connection of its own, finds what looking up by keys finds."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from runtime.postgres.pool import UNREACHABLE, Pool, connect
from tests.integration.seals.sealing import (
    UNGUARD,
    Database,
    checks_of,
    post,
    record_transfers,
    seal_all,
    sealer_of,
)
from tests.integration.verification.books import corrupt, write_books
from tests.integration.verification.corruptions import CORRUPTIONS, Corruption
from verification.checks import Check, Finding
from verification.seals import ChainWalk
from verification.stretches import LookedUpLeaves
from verification.verify import verify

PENDING_MAX_S = 300.0


@pytest.fixture
async def unsealed(database: Database) -> Database:
    """Correct books: 200 transfers between 10 wallets, one reversed."""
    await write_books(database, transactions=200, wallets=10)
    return database


@pytest.fixture
async def books(unsealed: Database, pool: Pool) -> Database:
    """These, in three seals."""
    await seal_all(sealer_of(pool, seal_max=80))
    return unsealed


@pytest.fixture
async def beside(database_url: str) -> AsyncIterator[Database]:
    """A second connection."""
    connection = await connect(database_url, name="test")
    yield connection
    await connection.close()


async def _looked_up(database: Database) -> list[Finding]:
    """Return what looking each up finds, and reading stretches, too."""
    one_by_one, together = [
        await _walked(database, LookedUpLeaves(together_min=least)) for least in (10**9, 1)
    ]
    assert together == one_by_one
    return one_by_one


async def _walked(database: Database, leaves: LookedUpLeaves) -> list[Finding]:
    walk = ChainWalk(trusted=None, leaves=leaves)
    findings: list[Finding] = []
    while page := await walk.next_page(database):
        findings += page.findings
    return findings


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
async def test_a_corruption_is_told_in_the_same_words_by_every_way(
    books: Database, beside: Database, corruption: Corruption
) -> None:
    await corrupt(books, corruption.statements)

    alone = await verify(books, pending_max_s=PENDING_MAX_S)
    together = await verify(books, beside=beside, pending_max_s=PENDING_MAX_S)

    assert not alone.clean
    assert together == alone
    streamed = [one for one in alone.findings if one.check is Check.SEAL_DIGEST]
    assert streamed == await _looked_up(books)


_FAILED_NAMES_AN_ENTRY = """
UPDATE transactions AS t
SET
    source_wallet_id = o.source_wallet_id, source_sequence = o.source_sequence,
    fingerprint = t.fingerprint
FROM (SELECT * FROM transactions WHERE idempotency_key = '7') AS o
WHERE t.status = 'FAILED'
"""
_POSTED_NAMES_ANOTHER_S_ENTRY = """
UPDATE transactions AS t SET source_sequence = t.source_sequence + 1
WHERE t.idempotency_key = '7'
"""


@pytest.mark.parametrize("statement", [_FAILED_NAMES_AN_ENTRY, _POSTED_NAMES_ANOTHER_S_ENTRY])
async def test_a_sequence_that_names_another_transaction_s_entry_is_a_changed_digest(
    books: Database, statement: str
) -> None:
    assert await _looked_up(books) == []
    await books.execute(statement)

    report = await verify(books, pending_max_s=PENDING_MAX_S)

    found = [one for one in report.findings if one.check is Check.SEAL_DIGEST]
    assert len(found) == 1
    assert found == await _looked_up(books)


async def test_what_was_wrong_when_it_was_sealed_has_not_changed_since(
    unsealed: Database, pool: Pool
) -> None:
    await unsealed.execute(UNGUARD)
    await unsealed.execute(_POSTED_NAMES_ANOTHER_S_ENTRY)
    await seal_all(sealer_of(pool, seal_max=80))

    report = await verify(unsealed, pending_max_s=PENDING_MAX_S)

    assert not report.clean
    assert Check.SEAL_DIGEST not in checks_of(report)


async def test_a_connection_that_is_lost_ends_the_other_s_work(
    books: Database, beside: Database
) -> None:
    with pytest.raises(UNREACHABLE):
        await verify(
            books,
            beside=beside,
            pending_max_s=PENDING_MAX_S,
            progress=lambda _done, _total: beside.terminate(),
        )

    assert (await verify(books, pending_max_s=PENDING_MAX_S)).clean


async def test_books_that_are_posted_and_sealed_meanwhile_are_clean(
    database: Database, database_url: str, beside: Database, pool: Pool
) -> None:
    ids = await record_transfers(database, 300)
    sealer = sealer_of(pool, seal_max=40)

    async def work() -> None:
        for start in range(0, len(ids), 20):
            await post(database_url, ids[start : start + 20])
            await sealer.run_once()

    working = asyncio.ensure_future(work())
    reports = []
    while not working.done():
        reports.append(await verify(database, beside=beside, pending_max_s=PENDING_MAX_S))
    await working
    await seal_all(sealer)
    reports.append(await verify(database, beside=beside, pending_max_s=PENDING_MAX_S))

    assert [report.findings for report in reports] == [()] * len(reports)
    assert reports[-1].seals.transactions == reports[-1].by_status["COMPLETED"]
    assert reports[-1].entries > reports[0].entries
