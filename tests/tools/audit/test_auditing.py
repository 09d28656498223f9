"""The audit of a book in a database: all agree on a right one, and none on a wrong one."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.export.exporting import ExportFormat
from runtime.postgres.pool import connect
from tests.conftest import Connection
from tests.integration.command_line.dated_books import DatedBook
from tests.integration.verification.books import corrupt, write_books
from tests.integration.verification.terms import write_terms
from tools.audit.auditing import audit
from tools.audit.programs import Program

Programs = dict[ExportFormat, Program]


@pytest.fixture
async def beside(database_url: str) -> AsyncIterator[Connection]:
    """A second connection."""
    connection = await connect(database_url, name="test")
    yield connection
    await connection.close()


async def test_all_agree_on_a_book_with_every_type(
    programs: Programs, database: Connection, beside: Connection, tmp_path: Path
) -> None:
    await write_books(database, transactions=500, wallets=20)
    await write_terms(database)
    book = DatedBook(database)
    for kind in ("customer", "external"):
        await book.wallet("GBP", kind=kind)
    one, other = book.wallets
    for day in (1, 2):
        moment = datetime(2026, 1, day, tzinfo=UTC)
        await book.post(moment, (one, -70), (other, 70), type_="withdrawal")
    report = await audit(database, beside, list(programs.values()), tmp_path)

    assert report.is_well, report.to_json()
    assert report.missing_types == []
    assert {verdict.program for verdict in report.verdicts} == {"hledger", "ledger", "beancount"}


async def test_a_balance_that_is_not_what_its_entries_say_is_found_by_all(
    programs: Programs, database: Connection, beside: Connection, tmp_path: Path
) -> None:
    await write_books(database, transactions=50, wallets=5)
    await write_terms(database)
    await corrupt(
        database,
        "UPDATE wallets SET balance = balance + 1 WHERE id = (SELECT id FROM wallets LIMIT 1)",
    )
    report = await audit(database, beside, list(programs.values()), tmp_path)

    assert [bool(verdict.differences) for verdict in report.verdicts] == [True] * len(programs)
    assert not report.is_well


async def test_a_book_without_a_type_proves_nothing_of_it(
    programs: Programs, database: Connection, beside: Connection, tmp_path: Path
) -> None:
    await write_books(database, transactions=50, wallets=5)
    await write_terms(database)
    report = await audit(database, beside, list(programs.values()), tmp_path)

    assert report.missing_types == ["withdrawal"]
    assert not report.is_well
