"""Verification of a few transactions finds by keys what the whole finds by reading everything."""

from collections.abc import AsyncIterator
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from reconciler.schedule import LOOKUP_SESSION
from runtime.postgres.pool import connect
from tests.integration.verification.books import corrupt, write_books
from tests.integration.verification.corruptions import CORRUPTIONS, MIDDLE, WALLET, Corruption
from verification.checks import Check
from verification.verify import WRONG_ROWS_MAX, check_transactions

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


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

    assert {finding.check for finding in findings} == corruption.by_keys, findings


@pytest.mark.parametrize(
    ("change", "check", "subject"),
    [
        ("balance_after = balance_after + 1", Check.ENTRY_CHAIN, "entry 6"),
        ("transaction_id = gen_random_uuid()", Check.ENTRY_TRANSACTION, "entry 5"),
    ],
    ids=["a wrong balance", "an invented entry"],
)
async def test_an_entry_is_held_against_the_one_before_though_that_was_checked_long_ago(
    books: Connection, change: str, check: Check, subject: str
) -> None:
    following: UUID = await books.fetchval(
        f"SELECT transaction_id FROM entries WHERE wallet_id = {WALLET} AND sequence = 6"
    )
    await corrupt(books, f"UPDATE entries SET {change} WHERE {MIDDLE}")

    findings = await check_transactions(books, [following])

    assert [finding.check for finding in findings] == [check]
    assert findings[0].subject.endswith(subject)


async def test_findings_are_bounded(books: Connection) -> None:
    ids = await _all_ids(books)
    await corrupt(books, "UPDATE entries SET balance_after = sequence * 1000")

    findings = await check_transactions(books, ids)

    chain = [finding for finding in findings if finding.check is Check.ENTRY_CHAIN]
    assert len(chain) == WRONG_ROWS_MAX
