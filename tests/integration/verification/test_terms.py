"""Books with every type of transaction: each corruption is found, by the whole and among a few."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg
import pytest

from reconciler.schedule import LOOKUP_SESSION
from runtime.postgres.pool import connect
from tests.integration.verification.books import corrupt, write_books
from tests.integration.verification.terms import ENTRIES, TRANSACTIONS, WALLETS, write_terms
from verification.checks import Check
from verification.verify import check_transactions, verify

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
PENDING_MAX_S = 300.0


@dataclass(frozen=True)
class Corruption:
    """What is done to the books, and the checks that must tell of it: no more and no less.

    `among`: those of the check of a few transactions, where they are not the same.
    """

    name: str
    statements: str
    checks: frozenset[Check]
    among: frozenset[Check]


def _corruption(
    name: str, statements: str, *checks: Check, among: frozenset[Check] | None = None
) -> Corruption:
    found = frozenset(checks)
    return Corruption(name, statements, found, found if among is None else among)


def _id(name: str) -> str:
    return f"(SELECT id FROM transactions WHERE idempotency_key = '{name}')"


_BUYER = f"(SELECT source_wallet_id FROM transactions WHERE id = {_id('hold_open')})"
_BATCH = f"(SELECT batch_id FROM transaction_terms WHERE transaction_id = {_id('member_1')})"
_UNBOUND = """
ALTER TABLE holds DROP CONSTRAINT holds_check;
ALTER TABLE holds DROP CONSTRAINT holds_check1;
"""

CORRUPTIONS = [
    _corruption(
        "more is held than the open holds have left",
        f"UPDATE wallets SET held = held + 1 WHERE id = {_BUYER}",
        Check.HELD,
    ),
    _corruption(
        "nothing is held though holds are open",
        f"UPDATE wallets SET held = 0 WHERE id = {_BUYER}",
        Check.HELD,
    ),
    _corruption(
        "an open hold has more left than is held",
        f"UPDATE holds SET remaining = 451, amount = 751 WHERE transaction_id = {_id('hold_open')};"
        f"UPDATE transactions SET amount = 751 WHERE id = {_id('hold_open')}",
        Check.HELD,
    ),
    _corruption(
        "a released hold that is open again",
        "UPDATE holds SET remaining = 50, status = 'OPEN' "
        f"WHERE transaction_id = {_id('hold_released')}",
        Check.HELD,
    ),
    _corruption(
        "a hold without its row",
        f"DELETE FROM holds WHERE transaction_id = {_id('hold_released')}",
        Check.HOLD_AMOUNTS,
    ),
    _corruption(
        "a hold of a transaction that FAILED",
        f"""
        UPDATE transactions SET status = 'FAILED' WHERE id = {_id("hold_released")};
        INSERT INTO exceptional_transactions VALUES ('FAILED', {_id("hold_released")})
        """,
        Check.HOLD_AMOUNTS,
    ),
    _corruption(
        "a hold of another amount than its transaction",
        f"UPDATE holds SET amount = amount + 1 WHERE transaction_id = {_id('hold_captured')}",
        Check.HOLD_AMOUNTS,
    ),
    _corruption(
        "a hold of which more is captured than its captures took",
        f"UPDATE holds SET captured = captured + 1 WHERE transaction_id = {_id('hold_expired')}",
        Check.HOLD_AMOUNTS,
    ),
    _corruption(
        "a hold with more captured and left than its amount",
        f"""
        {_UNBOUND}
        UPDATE holds SET remaining = remaining + 1 WHERE transaction_id = {_id("hold_open")};
        UPDATE wallets SET held = held + 1 WHERE id = {_BUYER}
        """,
        Check.HOLD_AMOUNTS,
    ),
    _corruption(
        "a capture of a hold that is not",
        "UPDATE transaction_terms SET hold_id = gen_random_uuid() "
        f"WHERE transaction_id = {_id('capture_rest')}",
        Check.HOLD_AMOUNTS,
    ),
    _corruption(
        "a capture without its terms",
        f"DELETE FROM transaction_terms WHERE transaction_id = {_id('capture_rest')}",
        Check.HOLD_AMOUNTS,
    ),
    _corruption(
        "a hold that names an entry",
        f"UPDATE transactions SET source_sequence = 1 WHERE id = {_id('hold_open')}",
        Check.UNPOSTED_LEGS,
    ),
    _corruption(
        "a journal without legs",
        f"DELETE FROM transaction_legs WHERE transaction_id = {_id('journal')}",
        Check.TRANSACTION_LEGS,
        Check.ENTRY_TRANSACTION,
        Check.REVERSALS,
    ),
    _corruption(
        "a journal that lacks one leg",
        f"DELETE FROM transaction_legs WHERE transaction_id = {_id('journal')} AND position = 3",
        Check.JOURNAL_SUM,
        Check.ENTRY_TRANSACTION,
        Check.REVERSALS,
    ),
    _corruption(
        "a leg of a journal that names no entry",
        "UPDATE transaction_legs SET sequence = NULL "
        f"WHERE transaction_id = {_id('journal')} AND position = 2",
        Check.TRANSACTION_LEGS,
        Check.ENTRY_TRANSACTION,
    ),
    _corruption(
        "two legs of a journal that name one entry",
        "UPDATE transaction_legs SET sequence = sequence + 1, amount = 10 "
        f"WHERE transaction_id = {_id('journal')} AND position = 2",
        Check.TRANSACTION_LEGS,
        Check.JOURNAL_SUM,
        Check.ENTRY_TRANSACTION,
        Check.REVERSALS,
        among=frozenset({Check.JOURNAL_SUM, Check.ENTRY_TRANSACTION, Check.REVERSALS}),
    ),
    _corruption(
        "a leg of a journal in another currency",
        "UPDATE transaction_legs SET currency = 'USD' "
        f"WHERE transaction_id IN ({_id('journal')}, {_id('journal_reversal')}) AND position = 2",
        Check.JOURNAL_SUM,
        Check.ENTRY_CURRENCY,
    ),
    _corruption(
        "a FAILED journal that names an entry",
        "UPDATE transaction_legs SET sequence = 1 "
        f"WHERE transaction_id = {_id('journal_failed')} AND position = 1",
        Check.UNPOSTED_LEGS,
    ),
    _corruption(
        "a posted journal that is PENDING again",
        f"UPDATE transactions SET status = 'PENDING' WHERE id = {_id('journal')};"
        f"DELETE FROM exceptional_transactions WHERE transaction_id = {_id('journal')}",
        Check.UNPOSTED_LEGS,
        Check.ENTRY_TRANSACTION,
        Check.REVERSALS,
    ),
    _corruption(
        "more is reversed than there was",
        f"UPDATE transactions SET reverses = {_id('half')} WHERE idempotency_key = 'some'",
        Check.REVERSALS,
    ),
    _corruption(
        "a part is reversed of what is REVERSED",
        f"UPDATE transactions SET reverses = {_id('capture')} WHERE idempotency_key = 'rest'",
        Check.REVERSALS,
    ),
    _corruption(
        "the whole is reversed of what is COMPLETED",
        f"UPDATE transactions SET status = 'COMPLETED' WHERE id = {_id('half')};"
        f"DELETE FROM exceptional_transactions WHERE transaction_id = {_id('half')}",
        Check.REVERSALS,
    ),
    _corruption(
        "a journal is REVERSED and nothing reverses it",
        "UPDATE transactions SET reverses = NULL WHERE idempotency_key = 'journal_reversal'",
        Check.REVERSALS,
    ),
    _corruption(
        "a journal that is reversed and COMPLETED",
        f"UPDATE transactions SET status = 'COMPLETED' WHERE id = {_id('journal')};"
        f"DELETE FROM exceptional_transactions WHERE transaction_id = {_id('journal')}",
        Check.REVERSALS,
    ),
    _corruption(
        "a reversal of what is not",
        "UPDATE transactions SET reverses = gen_random_uuid() WHERE idempotency_key = 'some'",
        Check.REVERSALS,
    ),
    _corruption(
        "a reversal the same way round",
        f"UPDATE transactions SET reverses = {_id('member_2')} WHERE idempotency_key = 'some'",
        Check.REVERSALS,
    ),
    _corruption(
        "an atomic batch that was posted in part",
        f"UPDATE transaction_terms SET batch_id = {_BATCH} "
        f"WHERE transaction_id = {_id('member_failed_1')}",
        Check.ATOMIC_BATCHES,
    ),
    _corruption(
        "an atomic batch of which one member waits",
        f"UPDATE transaction_terms SET batch_id = {_BATCH} WHERE transaction_id = {_id('later')}",
        Check.ATOMIC_BATCHES,
    ),
    _corruption(
        "a SCHEDULED transaction that is not on the schedule",
        "DELETE FROM scheduled_transactions",
        Check.SCHEDULED,
    ),
    _corruption(
        "a SCHEDULED transaction on the schedule for another time",
        "UPDATE scheduled_transactions SET execute_at = execute_at + interval '1 s'",
        Check.SCHEDULED,
    ),
    _corruption(
        "a transaction on the schedule that has ended",
        f"INSERT INTO scheduled_transactions VALUES (now() + interval '1 h', {_id('move')})",
        Check.SCHEDULED,
        among=frozenset(),
    ),
    _corruption(
        "a SCHEDULED transaction that should have been PENDING long ago",
        """
        UPDATE scheduled_transactions SET execute_at = now() - interval '301 s';
        UPDATE transaction_terms AS t SET execute_at = s.execute_at
        FROM scheduled_transactions AS s WHERE s.transaction_id = t.transaction_id
        """,
        Check.SCHEDULED,
        among=frozenset(),
    ),
]


@pytest.fixture
async def books(database_url: str) -> AsyncIterator[Connection]:
    """A database with correct books: 30 transfers, and every type and end of what has terms."""
    connection = await connect(database_url, name="test")
    await write_books(connection, transactions=30, wallets=4)
    await write_terms(connection)
    yield connection
    await connection.close()


async def _among(books: Connection, database_url: str) -> set[Check]:
    """The checks that a check of all transactions by their ids tells of."""
    rows = await books.fetch("SELECT id FROM transactions ORDER BY id")
    connection = await connect(database_url, name="test", session=LOOKUP_SESSION)
    findings = await check_transactions(connection, [row["id"] for row in rows])
    await connection.close()
    return {finding.check for finding in findings}


async def test_correct_books_are_clean_and_counted(books: Connection, database_url: str) -> None:
    report = await verify(books, pending_max_s=PENDING_MAX_S)

    assert report.findings == ()
    assert report.transactions == 34 + TRANSACTIONS
    assert (report.wallets, report.entries) == (4 + WALLETS, 62 + ENTRIES)
    assert report.by_status["SCHEDULED"] == 1
    assert await _among(books, database_url) == set()


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
async def test_a_corruption_is_found_by_its_own_checks_alone(
    books: Connection, database_url: str, corruption: Corruption
) -> None:
    await corrupt(books, corruption.statements)

    report = await verify(books, pending_max_s=PENDING_MAX_S)

    assert not report.clean
    assert {finding.check for finding in report.findings} == corruption.checks, report.findings
    assert report.findings_total == len(report.findings)
    assert await _among(books, database_url) == corruption.among


async def test_what_a_forced_reversal_took_is_no_finding_and_more_is(
    books: Connection, database_url: str
) -> None:
    overdraw = f"""
    UPDATE wallets SET forced_overdraft = 10000, overdraft_limit = 0,
    held = balance + 10000, kind = 'customer' WHERE id = {_BUYER};
    UPDATE holds SET amount = (SELECT held FROM wallets WHERE id = {_BUYER}) + 300,
    remaining = (SELECT held FROM wallets WHERE id = {_BUYER})
    WHERE transaction_id = {_id("hold_open")};
    UPDATE transactions SET amount = (SELECT amount FROM holds WHERE transaction_id = id)
    WHERE id = {_id("hold_open")}
    """
    await books.execute(overdraw)
    forced = await verify(books, pending_max_s=PENDING_MAX_S)
    forced_among = await _among(books, database_url)
    await corrupt(books, f"UPDATE wallets SET forced_overdraft = 9999 WHERE id = {_BUYER}")
    more = await verify(books, pending_max_s=PENDING_MAX_S)

    assert forced.findings == ()
    assert forced_among == set()
    assert [finding.check for finding in more.findings] == [Check.WALLET_AVAILABLE]
    assert await _among(books, database_url) == {Check.WALLET_AVAILABLE}


async def test_what_was_scheduled_waits_from_its_time_on(books: Connection) -> None:
    """It was recorded a year ago, and due for a minute."""
    await books.execute(
        f"""
        UPDATE transactions SET created_at = now() - interval '1 year', status = 'PENDING'
        WHERE id = {_id("later")};
        DELETE FROM scheduled_transactions;
        UPDATE transaction_terms SET execute_at = now() - interval '1 min'
        WHERE transaction_id = {_id("later")}
        """
    )
    young = await verify(books, pending_max_s=PENDING_MAX_S)
    old = await verify(books, pending_max_s=30)

    assert young.findings == ()
    assert [finding.check for finding in old.findings] == [Check.PENDING_AGE]
