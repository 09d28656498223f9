"""Every check finds its own corruption, and correct books are clean."""

import asyncio
from dataclasses import dataclass

import asyncpg
import pytest

from runtime.postgres.pool import connect
from tests.integration.verification.books import corrupt, write_books
from verification.checks import Check
from verification.verify import verify

PENDING_MAX_S = 300.0
EVERY_ENTRY = 1000
"""Stands for the number of entries of the wallet with the fewest."""


@dataclass(frozen=True)
class Corruption:
    """What is done to the books, and the checks that must tell of it: no more and no less."""

    name: str
    statements: str
    checks: frozenset[Check]
    findings: int


def _corruption(name: str, statements: str, *checks: Check, findings: int = 1) -> Corruption:
    return Corruption(name, statements, frozenset(checks), findings)


# The wallet with the most entries, and its middle entry.
_WALLET = "(SELECT id FROM wallets ORDER BY version DESC, id LIMIT 1)"
_MIDDLE = f"wallet_id = {_WALLET} AND sequence = 5"
_LAST = f"wallet_id = {_WALLET} AND sequence = (SELECT version FROM wallets WHERE id = {_WALLET})"
# Some posted transaction: not the REVERSED one.
_POSTED = "idempotency_key = '7'"

CORRUPTIONS = [
    _corruption(
        "a balance off by one",
        f"UPDATE wallets SET balance = balance + 1 WHERE id = {_WALLET}",
        Check.WALLET_BALANCE,
    ),
    _corruption(
        "a version ahead",
        f"UPDATE wallets SET version = version + 1 WHERE id = {_WALLET}",
        Check.WALLET_VERSION,
    ),
    _corruption(
        "less than nothing available",
        f"UPDATE wallets SET held = balance + overdraft_limit + 1 WHERE id = {_WALLET}",
        Check.WALLET_AVAILABLE,
    ),
    _corruption(
        "a gap in the sequence",
        f"""
        UPDATE transactions SET source_sequence = source_sequence + 1
        WHERE source_wallet_id = {_WALLET} AND id = (SELECT transaction_id FROM entries
        WHERE {_LAST});
        UPDATE transactions SET destination_sequence = destination_sequence + 1
        WHERE destination_wallet_id = {_WALLET} AND id = (SELECT transaction_id FROM entries
        WHERE {_LAST});
        UPDATE entries SET sequence = sequence + 1 WHERE {_LAST}
        """,
        Check.ENTRY_SEQUENCE,
    ),
    _corruption(
        "a balance_after that does not follow",
        f"UPDATE entries SET balance_after = balance_after + 1 WHERE {_MIDDLE}",
        Check.ENTRY_CHAIN,
        findings=2,  # nor does the next one follow from it
    ),
    _corruption(
        "a balance_after at the end of 64 bits",
        f"UPDATE entries SET balance_after = 9223372036854775807 WHERE {_MIDDLE}",
        Check.ENTRY_CHAIN,
        findings=2,
    ),
    _corruption(
        "a wallet that is gone",
        f"DELETE FROM wallets WHERE id = {_WALLET}",
        Check.ENTRY_WALLET,
        Check.CURRENCY_SUM,
        findings=2,
    ),
    _corruption(
        "two entries of a transaction that is not",
        """
        WITH invented AS (SELECT gen_random_uuid() AS id),
        changed AS (
            UPDATE wallets AS w
            SET version = version + 1, balance = balance + a.amount
            FROM (
                SELECT id, CASE row_number() OVER (ORDER BY id) WHEN 1 THEN 5 ELSE -5 END AS amount
                FROM wallets ORDER BY id LIMIT 2
            ) AS a
            WHERE w.id = a.id
            RETURNING w.id, w.version, a.amount, w.balance
        )
        INSERT INTO entries SELECT c.id, c.version, i.id, c.amount, c.balance, now()
        FROM changed AS c, invented AS i
        """,
        Check.ENTRY_TRANSACTION,
        findings=2,
    ),
    _corruption(
        "a third entry of a posted transaction",
        f"""
        WITH changed AS (
            UPDATE wallets SET version = version + 1, balance = balance + 5
            WHERE id = {_WALLET} RETURNING id, version, balance
        )
        INSERT INTO entries
        SELECT c.id, c.version, t.id, 5, c.balance, now() FROM changed AS c, transactions AS t
        WHERE t.{_POSTED}
        """,
        Check.ENTRY_TRANSACTION,
        Check.CURRENCY_SUM,
        findings=2,
    ),
    _corruption(
        "an entry that is gone",
        f"DELETE FROM entries WHERE {_LAST}",
        Check.WALLET_BALANCE,
        Check.WALLET_VERSION,
        Check.TRANSACTION_LEGS,
        Check.CURRENCY_SUM,
        findings=4,
    ),
    _corruption(
        "a wallet in another currency",
        """
        UPDATE wallets SET currency = 'USD' WHERE id = (
            SELECT w.id FROM wallets AS w WHERE w.balance <> 0 ORDER BY w.version, w.id LIMIT 1
        )
        """,
        Check.ENTRY_CURRENCY,
        Check.CURRENCY_SUM,
        findings=EVERY_ENTRY + 2,  # of both currencies the sum is off
    ),
    _corruption(
        "a COMPLETED transaction without entries",
        "UPDATE transactions SET status = 'COMPLETED' WHERE status = 'PENDING'",
        Check.TRANSACTION_LEGS,
        findings=2,
    ),
    _corruption(
        "another amount than that of the entries",
        f"UPDATE transactions SET amount = amount + 1 WHERE {_POSTED}",
        Check.TRANSACTION_LEGS,
        Check.ENTRY_TRANSACTION,
        findings=4,
    ),
    _corruption(
        "legs the wrong way round",
        f"""
        UPDATE transactions SET source_wallet_id = destination_wallet_id,
        destination_wallet_id = source_wallet_id, source_sequence = destination_sequence,
        destination_sequence = source_sequence WHERE {_POSTED}
        """,
        Check.TRANSACTION_LEGS,
        Check.ENTRY_TRANSACTION,
        findings=4,
    ),
    _corruption(
        "a transaction that names another's entry",
        """
        UPDATE transactions AS t SET source_sequence = t.source_sequence + 1
        WHERE t.id = (SELECT transaction_id FROM entries WHERE amount < 0 AND sequence = 3
        ORDER BY wallet_id LIMIT 1)
        """,
        Check.TRANSACTION_LEGS,
        Check.ENTRY_TRANSACTION,
        findings=2,
    ),
    _corruption(
        "a FAILED transaction that names entries",
        "UPDATE transactions SET source_sequence = 1 WHERE status = 'FAILED'",
        Check.UNPOSTED_LEGS,
    ),
    _corruption(
        "a posted transaction made PENDING again",
        f"UPDATE transactions SET status = 'PENDING' WHERE {_POSTED}",
        Check.UNPOSTED_LEGS,
        Check.ENTRY_TRANSACTION,
        findings=3,
    ),
    _corruption(
        "a transaction that waits too long",
        "UPDATE transactions SET created_at = now() - interval '301 s' WHERE status = 'PENDING'",
        Check.PENDING_AGE,
    ),
    _corruption(
        "a FAILED transaction that is not listed",
        "DELETE FROM exceptional_transactions WHERE status = 'FAILED'",
        Check.EXCEPTIONAL_LIST,
    ),
    _corruption(
        "a COMPLETED transaction listed as FAILED",
        "INSERT INTO exceptional_transactions SELECT 'FAILED', id FROM transactions "
        f"WHERE {_POSTED}",
        Check.EXCEPTIONAL_LIST,
    ),
]


@pytest.fixture
async def books(
    database: "asyncpg.Connection[asyncpg.Record]",
) -> "asyncpg.Connection[asyncpg.Record]":
    """A database with correct books: 300 transfers between 10 wallets."""
    await write_books(database, transactions=300, wallets=10)
    return database


async def test_correct_books_are_clean_and_counted(
    books: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    report = await verify(books, pending_max_s=PENDING_MAX_S)

    assert report.to_json() == {
        "clean": True,
        "wallets": 10,
        "transactions": 303,
        "entries": 600,
        "by_status": {
            "COMPLETED": 299,
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
    assert report.entries == 200_000
    assert len(seen) >= 4
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert all(done <= total for done, total in seen)
    assert seen[-1] == (500_003, 500_003)


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

    assert [report.findings for report in reports] == [()] * len(reports)
    assert reports[-1].entries > reports[0].entries
