"""Every check finds its own corruption, and correct books are clean."""

import asyncio

import asyncpg
import pytest

from runtime.postgres.pool import connect
from tests.integration.verification.books import corrupt, write_books
from tests.integration.verification.corruptions import CORRUPTIONS, EVERY_ENTRY, Corruption
from verification.verify import verify

PENDING_MAX_S = 300.0


@pytest.fixture
async def books(
    database: "asyncpg.Connection[asyncpg.Record]",
) -> "asyncpg.Connection[asyncpg.Record]":
    """A database with correct books: 300 transfers between 10 wallets, one reversed."""
    await write_books(database, transactions=300, wallets=10)
    return database


async def test_only_a_customer_s_wallet_has_to_cover_what_it_pays(
    books: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    overdrawn = await books.fetchval(
        "SELECT id FROM wallets WHERE balance < 0 ORDER BY balance LIMIT 1"
    )
    wide = "UPDATE wallets SET kind = $2::text::wallet_kind, overdraft_limit = 0 WHERE id = $1"
    await books.execute(wide, overdrawn, "internal")

    assert (await verify(books, pending_max_s=PENDING_MAX_S)).clean


async def test_correct_books_are_clean_and_counted(
    books: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    report = await verify(books, pending_max_s=PENDING_MAX_S)

    assert report.to_json() == {
        "clean": True,
        "wallets": 10,
        "transactions": 304,
        "entries": 602,
        "by_status": {
            "COMPLETED": 300,
            "FAILED": 1,
            "PENDING": 1,
            "QUARANTINED": 1,
            "REVERSED": 1,
        },
        "seals": {
            "number": 0,
            "transactions": 0,
            "signed": 0,
            "signatures_checked": False,
            "latest": None,
        },
        "findings": [],
    }


async def test_empty_books_are_clean(database: "asyncpg.Connection[asyncpg.Record]") -> None:
    report = await verify(database, pending_max_s=PENDING_MAX_S)

    assert report.clean
    assert (report.wallets, report.transactions, report.entries) == (0, 0, 0)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
async def test_a_corruption_is_found_by_its_own_checks_alone(
    books: "asyncpg.Connection[asyncpg.Record]", corruption: Corruption
) -> None:
    await corrupt(books, corruption.statements)

    report = await verify(books, pending_max_s=PENDING_MAX_S)

    assert not report.clean
    assert {finding.check for finding in report.findings} == corruption.checks, report.findings
    expected = corruption.findings
    if expected > EVERY_ENTRY:
        expected += await books.fetchval("SELECT min(version) FROM wallets") - EVERY_ENTRY
    assert len(report.findings) == expected, report.findings
    assert report.findings_total == len(report.findings)


async def test_it_insists_on_a_snapshot_of_its_own(
    books: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    async with books.transaction():
        with pytest.raises(asyncpg.InterfaceError):
            await verify(books, pending_max_s=PENDING_MAX_S)


async def test_its_settings_end_with_it(books: "asyncpg.Connection[asyncpg.Record]") -> None:
    before = await books.fetchval("SHOW work_mem")

    await verify(books, pending_max_s=PENDING_MAX_S)

    assert await books.fetchval("SHOW work_mem") == before
    assert await books.fetchval("SHOW enable_nestloop") == "on"


async def test_two_hundred_thousand_entries_stream_and_the_progress_arrives(
    database: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await write_books(database, transactions=100_000, wallets=20_000)
    seen: list[tuple[int, int]] = []

    report = await verify(
        database,
        pending_max_s=PENDING_MAX_S,
        progress=lambda done, total: seen.append((done, total)),
    )

    assert report.clean, report.findings[:10]
    assert report.entries == 200_002
    assert len(seen) >= 4
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert all(done <= total for done, total in seen)
    assert seen[-1] == (500_008, 500_008)


_TRANSFER = """
WITH wanted AS (
    SELECT id, row_number() OVER (ORDER BY id) AS number FROM wallets ORDER BY id LIMIT 2
), changed AS (
    UPDATE wallets AS w
    SET balance = balance + CASE number WHEN 1 THEN -1 ELSE 1 END, version = version + 1
    FROM wanted WHERE w.id = wanted.id
    RETURNING w.id, w.balance, w.version, CASE number WHEN 1 THEN -1 ELSE 1 END AS amount
), transaction AS (
    INSERT INTO transactions (
        id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
        destination_wallet_id, amount, currency, status, source_sequence, destination_sequence,
        created_at, completed_at
    )
    SELECT
        uuid_v7(clock_us()), 'live', gen_random_uuid()::text, '\\x00', 'http', 'transfer', s.id,
        d.id, 1, 'EUR', 'COMPLETED', s.version, d.version, now(), now()
    FROM changed AS s, changed AS d WHERE s.amount < 0 AND d.amount > 0
    RETURNING id
)
INSERT INTO entries
SELECT c.id, c.version, t.id, c.amount, c.balance, now() FROM changed AS c, transaction AS t
"""


async def test_books_that_are_written_meanwhile_are_clean(
    books: "asyncpg.Connection[asyncpg.Record]", database_url: str
) -> None:
    writer = await connect(database_url, name="test")

    async def write() -> None:
        for _ in range(30):
            await writer.execute(_TRANSFER)

    writing = asyncio.ensure_future(write())
    reports = [await verify(books, pending_max_s=PENDING_MAX_S)]
    while not writing.done():
        reports.append(await verify(books, pending_max_s=PENDING_MAX_S))
    await writing
    await writer.close()
    reports.append(await verify(books, pending_max_s=PENDING_MAX_S))

    assert [report.findings for report in reports] == [()] * len(reports)
    assert reports[-1].entries > reports[0].entries
