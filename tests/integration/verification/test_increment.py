"""Verification of a few transactions finds by keys what the whole finds by reading everything."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from reconciler.schedule import LOOKUP_SESSION
from runtime.postgres.pool import connect
from tests.integration.verification.books import corrupt, write_books
from verification.checks import Check
from verification.verify import WRONG_ROWS_MAX, check_transactions

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True)
class Corruption:
    """What is done to the books, and the checks that must tell of it: no more and no less."""

    name: str
    statements: str
    checks: frozenset[Check]


def _corruption(name: str, statements: str, *checks: Check) -> Corruption:
    return Corruption(name, statements, frozenset(checks))


_WALLET = "(SELECT id FROM wallets ORDER BY version DESC, id LIMIT 1)"
_MIDDLE = f"wallet_id = {_WALLET} AND sequence = 5"
_LAST = f"wallet_id = {_WALLET} AND sequence = (SELECT version FROM wallets WHERE id = {_WALLET})"
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
        Check.HELD,
    ),
    _corruption(
        "a wallet in another currency",
        f"UPDATE wallets SET currency = 'USD' WHERE id = {_WALLET}",
        Check.ENTRY_CURRENCY,
    ),
    _corruption(
        "a wallet that is gone",
        f"DELETE FROM wallets WHERE id = {_WALLET}",
        Check.ENTRY_WALLET,
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
        Check.WALLET_VERSION,
    ),
    _corruption(
        "a balance_after that does not follow",
        f"UPDATE entries SET balance_after = balance_after + 1 WHERE {_MIDDLE}",
        Check.ENTRY_CHAIN,
    ),
    _corruption(
        "a balance_after at the end of 64 bits",
        f"UPDATE entries SET balance_after = 9223372036854775807 WHERE {_MIDDLE}",
        Check.ENTRY_CHAIN,
    ),
    _corruption(
        "an entry of a transaction that is not, at the end of its wallet",
        f"""
        WITH changed AS (
            UPDATE wallets SET version = version + 1, balance = balance + 5
            WHERE id = {_WALLET} RETURNING id, version, balance
        )
        INSERT INTO entries SELECT id, version, gen_random_uuid(), 5, balance, now() FROM changed
        """,
        Check.ENTRY_TRANSACTION,
    ),
    _corruption(
        "an entry that belongs to another transaction",
        f"UPDATE entries SET transaction_id = gen_random_uuid() WHERE {_MIDDLE}",
        Check.TRANSACTION_LEGS,
    ),
    _corruption(
        "a COMPLETED transaction without entries",
        "UPDATE transactions SET status = 'COMPLETED' WHERE status = 'PENDING'",
        Check.TRANSACTION_LEGS,
    ),
    _corruption(
        "another amount than that of the entries",
        f"UPDATE transactions SET amount = amount + 1 WHERE {_POSTED}",
        Check.TRANSACTION_LEGS,
    ),
    _corruption(
        "legs the wrong way round",
        f"""
        UPDATE transactions SET source_wallet_id = destination_wallet_id,
        destination_wallet_id = source_wallet_id, source_sequence = destination_sequence,
        destination_sequence = source_sequence WHERE {_POSTED}
        """,
        Check.TRANSACTION_LEGS,
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
    ),
    _corruption(
        "a posted transaction made PENDING again",
        f"UPDATE transactions SET status = 'PENDING' WHERE {_POSTED}",
        Check.UNPOSTED_LEGS,
        Check.ENTRY_TRANSACTION,
    ),
    _corruption(
        "a FAILED transaction that names entries",
        "UPDATE transactions SET source_sequence = 1 WHERE status = 'FAILED'",
        Check.UNPOSTED_LEGS,
    ),
    _corruption(
        "a FAILED transaction that is not listed",
        "DELETE FROM exceptional_transactions WHERE status = 'FAILED'",
        Check.EXCEPTIONAL_LIST,
    ),
]


@pytest.fixture
async def books(database_url: str) -> AsyncIterator[Connection]:
    """A database with correct books: 300 transfers between 10 wallets."""
    connection = await connect(database_url, name="test", session=LOOKUP_SESSION)
    await write_books(connection, transactions=300, wallets=10)
    yield connection
    await connection.close()


async def _all_ids(books: Connection) -> list[UUID]:
    return [row["id"] for row in await books.fetch("SELECT id FROM transactions ORDER BY id")]


async def test_correct_books_yield_no_findings(books: Connection) -> None:
    ids = await _all_ids(books)

    assert await check_transactions(books, ids) == []
    assert await check_transactions(books, ids[150:160]) == []
    assert await check_transactions(books, []) == []


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
async def test_a_corruption_is_found_by_its_own_checks_alone(
    books: Connection, corruption: Corruption
) -> None:
    ids = await _all_ids(books)
    await corrupt(books, corruption.statements)

    findings = await check_transactions(books, ids)

    assert {finding.check for finding in findings} == corruption.checks, findings


async def test_an_entry_is_held_against_the_one_before_though_that_was_checked_long_ago(
    books: Connection,
) -> None:
    following: UUID = await books.fetchval(
        f"SELECT transaction_id FROM entries WHERE wallet_id = {_WALLET} AND sequence = 6"
    )
    await corrupt(books, f"UPDATE entries SET balance_after = balance_after + 1 WHERE {_MIDDLE}")

    findings = await check_transactions(books, [following])

    assert [finding.check for finding in findings] == [Check.ENTRY_CHAIN]
    assert findings[0].subject.endswith("entry 6")


async def test_an_invented_entry_is_found_by_the_one_that_follows(books: Connection) -> None:
    following: UUID = await books.fetchval(
        f"SELECT transaction_id FROM entries WHERE wallet_id = {_WALLET} AND sequence = 6"
    )
    await corrupt(books, f"UPDATE entries SET transaction_id = gen_random_uuid() WHERE {_MIDDLE}")

    findings = await check_transactions(books, [following])

    assert [finding.check for finding in findings] == [Check.ENTRY_TRANSACTION]
    assert findings[0].subject.endswith("entry 5")


async def test_findings_are_bounded(books: Connection) -> None:
    ids = await _all_ids(books)
    await corrupt(books, "UPDATE entries SET balance_after = sequence * 1000")

    findings = await check_transactions(books, ids)

    chain = [finding for finding in findings if finding.check is Check.ENTRY_CHAIN]
    assert len(chain) == WRONG_ROWS_MAX
