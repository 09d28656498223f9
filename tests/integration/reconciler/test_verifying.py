"""The verification that an operator asked for: made once, by whoever leads, and never lost."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from reconciler.verifying import LOOK_S, STARTS_MAX, Verifier
from runtime.postgres.pool import Pool
from tests.conftest import Connection
from tests.integration.reconciler.parts import make_verifier
from tests.integration.verification.books import corrupt, write_books
from tests.integration.verification.corruptions import WALLET
from tests.support import eventually
from verification.seal_keys import SealKeys

_ASK = "INSERT INTO verifications (requested_by) VALUES ('ann') RETURNING id"


@pytest.fixture
async def books(database: Connection) -> Connection:
    """Correct books: 300 transfers between 10 wallets."""
    await write_books(database, transactions=300, wallets=10)
    return database


@pytest.fixture
def verifier(pool: Pool, database_url: str) -> Verifier:
    """What verifies these books."""
    return make_verifier(pool, database_url)


async def _row(books: Connection, verification_id: UUID) -> asyncpg.Record:
    row = await books.fetchrow("SELECT * FROM verifications WHERE id = $1", verification_id)
    assert row is not None
    return row


async def _acts(books: Connection) -> list[str]:
    rows = await books.fetch(
        "SELECT action FROM audit_log WHERE action LIKE 'verification.%' ORDER BY id"
    )
    return [row["action"] for row in rows]


async def test_nothing_is_made_that_nobody_asked_for(books: Connection, verifier: Verifier) -> None:
    assert await verifier.run_step() == LOOK_S
    assert await books.fetchval("SELECT count(*) FROM verifications") == 0


async def test_right_books_are_clean_and_wrong_ones_leave_their_findings(
    books: Connection, verifier: Verifier
) -> None:
    clean = await books.fetchval(_ASK)
    await verifier.run_step()
    await corrupt(books, f"UPDATE wallets SET balance = balance + 1 WHERE id = {WALLET}")
    wrong = await books.fetchval(_ASK)
    await verifier.run_step()
    kept = await books.fetch("SELECT check_name, last_found_at FROM integrity_findings")
    again = await books.fetchval(_ASK)
    await verifier.run_step()
    met = await books.fetch("SELECT check_name, last_found_at FROM integrity_findings")

    rows = [await _row(books, one) for one in (clean, wrong, again)]
    assert rows[0]["findings"] == 0, await books.fetch("SELECT * FROM integrity_findings")
    assert rows[0]["transactions"] >= 300
    assert rows[1]["findings"] == rows[2]["findings"] == len(kept) > 0
    assert {row["last_found_at"] for row in kept} == {None}
    assert len(met) == len(kept)
    assert None not in {row["last_found_at"] for row in met}
    assert await _acts(books) == ["verification.ended"] * 3


async def test_one_that_a_leader_left_is_made_by_the_next(
    books: Connection, verifier: Verifier
) -> None:
    verification_id = await books.fetchval(_ASK)
    # Nothing can be read until this ends, so the first leader is in the middle.
    blocking = books.transaction()
    await blocking.start()
    await books.execute("LOCK TABLE wallets IN ACCESS EXCLUSIVE MODE")
    first = asyncio.create_task(verifier.run_step())

    async def is_begun() -> bool:
        return bool((await _row(books, verification_id))["starts"])

    await eventually(is_begun, what="it is begun")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await blocking.rollback()
    assert (await _row(books, verification_id))["ended_at"] is None

    await verifier.run_step()

    row = await _row(books, verification_id)
    assert (row["starts"], row["findings"], row["error"]) == (2, 0, None)
    assert await _acts(books) == ["verification.ended"]


async def test_one_that_never_ends_is_given_up(books: Connection, verifier: Verifier) -> None:
    verification_id = await books.fetchval(_ASK)
    await books.execute("UPDATE verifications SET starts = $1", STARTS_MAX)

    await verifier.run_step()

    row = await _row(books, verification_id)
    assert row["ended_at"] is not None
    assert f"begun {STARTS_MAX} times" in row["error"]
    assert await _acts(books) == ["verification.failed"]
    assert await books.fetchval(_ASK) is not None


async def test_what_cannot_be_read_ends_it_with_the_reason(
    books: Connection, pool: Pool, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "latest").write_text("no seal")
    keys = SealKeys(tmp_path)
    verifier = Verifier(pool, database_url, keys=keys, pending_max_s=300, unsealed_max_s=3600)
    verification_id = await books.fetchval(_ASK)

    await verifier.run_step()

    row = await _row(books, verification_id)
    assert row["findings"] is None
    assert row["error"].startswith("SigningKeyError: ")


async def test_a_database_that_is_away_breaks_it_off_and_it_is_begun_again(
    books: Connection, pool: Pool, database_url: str
) -> None:
    verification_id = await books.fetchval(_ASK)
    nowhere = database_url.rpartition("/")[0] + "/nowhere"
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await make_verifier(pool, nowhere).run_step()
    assert (await _row(books, verification_id))["ended_at"] is None

    await make_verifier(pool, database_url).run_step()

    assert (await _row(books, verification_id))["findings"] == 0


async def test_how_far_it_is_is_written_down(
    books: Connection, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.verifying.PROGRESS_S", 0.01)
    verification_id = await books.fetchval(_ASK)
    # Reading stands still behind this lock, once the wallets have been read.
    blocking = books.transaction()
    await blocking.start()
    await books.execute("LOCK TABLE exceptional_transactions IN ACCESS EXCLUSIVE MODE")
    step = asyncio.create_task(verifier.run_step())

    async def progress() -> Any:
        row = await _row(books, verification_id)
        return 0 < row["rows_done"] < row["rows_total"] and row

    await eventually(progress, what="it is on its way")
    await blocking.rollback()
    await step

    assert (await _row(books, verification_id))["findings"] == 0
