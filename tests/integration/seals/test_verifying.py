"""What somebody with the database's password rewrites is found by the seals, and only by them."""

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from reconciler.sealing import SealCheck
from runtime.postgres.pool import Pool
from tests.integration.seals.sealing import (
    UNGUARD,
    Database,
    checks_of,
    digest_from_tables,
    post,
    record_transfers,
    seal_all,
    sealer_of,
    verified,
)
from tests.integration.verification.books import write_books
from verification.checks import Check
from verification.seal_keys import Anchor, SealKeys
from verification.seals import ChainWalk
from verification.stretches import LookedUpLeaves
from verification.verify import SealExpectations

# The middle one of the posted transactions has moved one cent more ever since: its row, both
# entries, every balance after them, and both wallets.
_REWRITE: Final = """
CREATE TEMPORARY TABLE victim AS
SELECT * FROM transactions ORDER BY id OFFSET 20 LIMIT 1;

UPDATE transactions AS t SET amount = t.amount + 1 FROM victim WHERE t.id = victim.id;
UPDATE entries AS e
SET
    amount = e.amount + CASE WHEN e.sequence = leg.sequence THEN leg.cents ELSE 0 END,
    balance_after = e.balance_after + leg.cents
FROM (
    SELECT source_wallet_id AS wallet_id, source_sequence AS sequence, -1 AS cents FROM victim
    UNION ALL
    SELECT destination_wallet_id, destination_sequence, 1 FROM victim
) AS leg
WHERE e.wallet_id = leg.wallet_id AND e.sequence >= leg.sequence;
UPDATE wallets AS w SET balance = w.balance - 1 FROM victim WHERE w.id = victim.source_wallet_id;
UPDATE wallets AS w SET balance = w.balance + 1 FROM victim
WHERE w.id = victim.destination_wallet_id;
"""


@pytest.fixture
async def books(database: Database, database_url: str, pool: Pool, keys: SealKeys) -> Database:
    """Sixty transfers in four signed seals."""
    await post(database_url, await record_transfers(database, 60))
    await seal_all(sealer_of(pool, keys, seal_max=15))
    return database


async def _victim(database: Database) -> UUID:
    found: UUID = await database.fetchval(
        "SELECT id FROM transactions ORDER BY id OFFSET 20 LIMIT 1"
    )
    return found


async def _anchor(database: Database, number: int) -> Anchor:
    return Anchor(
        number, await database.fetchval("SELECT digest FROM seals WHERE number = $1", number)
    )


async def _rechain(database: Database) -> None:
    """Make every digest anew over the tables as they are, as the thief's own program would."""
    previous = bytes(32)
    for seal in await database.fetch("SELECT * FROM seals ORDER BY number"):
        told = {**dict(seal), "previous": previous}
        digest = await digest_from_tables(database, told)
        await database.execute(
            "UPDATE seals SET previous = $2, digest = $3 WHERE number = $1",
            *(seal["number"], previous, digest),
        )
        previous = digest


async def test_a_consistent_rewrite_passes_every_other_check_and_is_named(books: Database) -> None:
    clean = await verified(books)
    await books.execute(UNGUARD + _REWRITE)

    report = await verified(books)

    assert clean.clean
    assert (clean.seals.number, clean.seals.transactions, clean.seals.signed) == (4, 60, 4)
    # The wallets' later entries have other balances after them: their transactions are named, too.
    assert checks_of(report) == {Check.SEAL_DIGEST}
    subjects = {finding.subject for finding in report.findings}
    assert f"transaction {await _victim(books)}" in subjects


async def test_a_chain_that_is_made_anew_is_found_by_its_signatures(
    books: Database, keys: SealKeys
) -> None:
    await books.execute(UNGUARD + _REWRITE)
    await _rechain(books)

    unaware = await verified(books)
    aware = await verified(books, SealExpectations(keys.trusted()))

    assert unaware.clean, "without the keys the new chain looks like any other"
    assert not unaware.seals.are_signatures_checked
    assert checks_of(aware) == {Check.SEAL_SIGNATURE}
    # The first seal is before the change, and its signature holds.
    assert [finding.subject for finding in aware.findings] == ["seal 2", "seal 3", "seal 4"]


async def test_a_chain_without_its_signatures_is_found(books: Database, keys: SealKeys) -> None:
    trusted = keys.trusted()
    await books.execute(UNGUARD + _REWRITE)
    await _rechain(books)
    await books.execute("UPDATE seals SET signature = NULL, key_id = NULL")
    long_trusted = type(trusted)(
        [replace(one, valid_from=one.valid_from - timedelta(days=1)) for one in trusted.keys]
    )

    report = await verified(books, SealExpectations(long_trusted))

    assert [(one.check, one.detail) for one in report.findings] == [
        (Check.SEAL_SIGNATURE, "no seal from 1 to 4 is signed")
    ]


async def test_a_chain_that_a_stranger_signed_is_found(
    books: Database, keys: SealKeys, tmp_path: Path
) -> None:
    stranger = SealKeys(tmp_path / "stranger")
    stranger.rotate(datetime.now(tz=UTC))
    signer = stranger.signer()
    await books.execute(UNGUARD + _REWRITE)
    await _rechain(books)
    for row in await books.fetch("SELECT number, digest FROM seals"):
        await books.execute(
            "UPDATE seals SET signature = $2, key_id = $3 WHERE number = $1",
            *(row["number"], signer.sign(row["digest"]), signer.key_id),
        )
    await books.execute(
        "INSERT INTO seal_keys (key_id, public_key) VALUES ($1, $2)",
        *(signer.key_id, signer.public_key),
    )

    report = await verified(books, SealExpectations(keys.trusted()))

    assert checks_of(report) == {Check.SEAL_SIGNATURE}
    assert all("not trusted" in finding.detail for finding in report.findings)


async def test_a_seal_that_is_gone_is_found_with_what_it_covered(books: Database) -> None:
    await books.execute(f"{UNGUARD} DELETE FROM seals WHERE number = 2")

    report = await verified(books)

    assert checks_of(report) == {Check.SEAL_CHAIN, Check.SEAL_MISSING}
    [gap] = [one for one in report.findings if one.check is Check.SEAL_CHAIN]
    assert (gap.subject, gap.detail) == ("seal 3", "none comes before it: seal 2 is missing")
    missing = [one.subject for one in report.findings if one.check is Check.SEAL_MISSING]
    assert len([subject for subject in missing if subject.startswith("transaction")]) == 15


async def test_a_tail_that_was_cut_off_is_found_by_what_was_written_down(books: Database) -> None:
    anchor = await _anchor(books, 4)
    # The thief also makes it look as if sealing had never come so far.
    await books.execute(f"{UNGUARD} DELETE FROM seals WHERE number > 2")
    await books.execute(
        "UPDATE seal_progress SET walked_until = ("
        " SELECT transaction_ids[15] FROM seals WHERE number = 2)"
    )

    unaware = await verified(books)
    aware = await verified(books, SealExpectations(anchors=[anchor]))

    assert unaware.clean
    assert [(one.check, one.subject) for one in aware.findings] == [(Check.SEAL_CHAIN, "seal 4")]
    assert str(anchor) in aware.findings[0].detail


async def test_another_history_under_the_same_numbers_is_found_by_what_was_written_down(
    books: Database,
) -> None:
    anchor = await _anchor(books, 3)
    assert (await verified(books, SealExpectations(anchors=[anchor]))).clean
    await books.execute(UNGUARD + _REWRITE)
    await _rechain(books)

    report = await verified(books, SealExpectations(anchors=[anchor]))

    assert [(one.check, one.subject) for one in report.findings] == [(Check.SEAL_CHAIN, "seal 3")]


_ONE = "(SELECT id FROM transactions ORDER BY id OFFSET 20 LIMIT 1)"


@pytest.mark.parametrize(
    ("statement", "check", "detail"),
    [
        (
            f"UPDATE transactions SET completed_at = created_at WHERE id = {_ONE}",
            Check.SEAL_DIGEST,
            "it or its entries were changed",
        ),
        (
            f"UPDATE entries SET created_at = now() + interval '1 h' WHERE transaction_id = {_ONE}",
            Check.SEAL_DIGEST,
            "it or its entries were changed",
        ),
        (
            f"UPDATE transactions SET submitter = 'thief' WHERE id = {_ONE}",
            Check.SEAL_DIGEST,
            "it or its entries were changed",
        ),
        (
            "UPDATE seals SET sealed_at = sealed_at - interval '1 h' WHERE number = 2",
            Check.SEAL_DIGEST,
            "do not give its digest",
        ),
        (
            "UPDATE seals SET transactions = transactions + 1 WHERE number = 2",
            Check.SEAL_DIGEST,
            "do not give its digest",
        ),
        (
            "UPDATE seals SET format = 7 WHERE number = 2",
            Check.SEAL_DIGEST,
            "unknown format 7",
        ),
        (
            "UPDATE seals SET previous = digest WHERE number = 2",
            Check.SEAL_CHAIN,
            "is not the digest of the seal before",
        ),
    ],
)
async def test_every_changed_field_is_found(
    books: Database, statement: str, check: Check, detail: str
) -> None:
    await books.execute(UNGUARD)
    await books.execute(statement)

    report = await verified(books)

    assert check in checks_of(report)
    assert any(detail in finding.detail for finding in report.findings)


async def test_a_sealed_transaction_that_is_gone_is_named(books: Database) -> None:
    victim = await _victim(books)
    await books.execute(UNGUARD)
    await books.execute("DELETE FROM transactions WHERE id = $1", victim)

    report = await verified(books)

    [finding] = [one for one in report.findings if one.check is Check.SEAL_DIGEST]
    assert finding.subject == f"transaction {victim}"
    assert finding.detail.startswith("it is gone since seal 2 of ")


async def test_a_transaction_that_is_slipped_in_behind_the_seals_is_missing_from_them(
    books: Database,
) -> None:
    await books.execute(
        "INSERT INTO transactions (id, submitter, idempotency_key, fingerprint, channel, type,"
        " source_wallet_id, destination_wallet_id, amount, currency, status, failure_code,"
        " created_at, completed_at) SELECT uuid_v7(clock_us() - 3600 * 1000000::bigint), 'thief',"
        " 'k', fingerprint, channel, type, source_wallet_id, destination_wallet_id, amount,"
        " currency, 'FAILED', 'discarded', created_at, completed_at FROM transactions LIMIT 1"
    )
    await books.execute(
        "INSERT INTO exceptional_transactions SELECT 'FAILED', id FROM transactions"
        " WHERE submitter = 'thief'"
    )

    report = await verified(books)

    assert checks_of(report) == {Check.SEAL_MISSING}


async def test_a_transaction_in_two_seals_is_found(books: Database) -> None:
    await books.execute(UNGUARD)
    await books.execute(
        "UPDATE seals SET transaction_ids[15] = (SELECT transaction_ids[14] FROM seals"
        " WHERE number = 3) WHERE number = 3"
    )

    report = await verified(books)

    assert any(one.detail == "it is in 2 seals" for one in report.findings)


async def test_what_ended_long_ago_and_is_not_sealed_is_found_after_the_bound(
    database: Database, database_url: str
) -> None:
    await post(database_url, await record_transfers(database, 3))
    await database.execute("UPDATE seal_progress SET began_at = now() - interval '2 h'")
    await database.execute("UPDATE transactions SET completed_at = now() - interval '90 min'")

    late = await verified(database)
    patient = await verified(database, SealExpectations(unsealed_max_s=7200))

    assert [one.check for one in late.findings] == [Check.SEAL_MISSING] * 3
    assert patient.clean


async def test_seals_of_every_key_are_believed_after_a_rotation(
    database: Database, database_url: str, pool: Pool, keys: SealKeys
) -> None:
    ids = await record_transfers(database, 30)
    sealer = sealer_of(pool, keys)
    await post(database_url, ids[:10])
    await sealer.run_once()
    now = datetime.now(tz=UTC)
    keys.rotate(now)
    await post(database_url, ids[10:20])
    # The running one takes the new key by itself.
    await sealer.run_once()
    keys.rotate(now)
    await post(database_url, ids[20:])
    await sealer.run_once()

    report = await verified(database, SealExpectations(keys.trusted()))

    assert report.clean
    used = await database.fetch("SELECT key_id FROM seals ORDER BY number")
    assert [row["key_id"] for row in used] == [one.key_id for one in keys.trusted().keys]
    looked_up = await database.fetch("SELECT public_key FROM seal_keys ORDER BY first_used_at")
    assert [row["public_key"] for row in looked_up] == [
        one.public_key for one in keys.trusted().keys
    ]


async def test_a_key_that_was_retired_signs_no_later_seal(books: Database, keys: SealKeys) -> None:
    [key] = keys.trusted().keys
    retired = replace(key, valid_until=key.valid_from)

    report = await verified(books, SealExpectations(type(keys.trusted())([retired])))

    assert checks_of(report) == {Check.SEAL_SIGNATURE}
    assert all("was not valid" in finding.detail for finding in report.findings)


async def test_the_continuous_check_finds_a_rewrite_and_goes_round(
    books: Database, pool: Pool, keys: SealKeys
) -> None:
    check = SealCheck(pool, keys=keys, interval_s=60)
    assert (await check.run_once(), await check.run_once()) == (4, 0)
    await books.execute(UNGUARD + _REWRITE)

    again = await check.run_once()

    assert again == 4
    found = await books.fetch("SELECT DISTINCT check_name FROM integrity_findings")
    assert [row["check_name"] for row in found] == ["seal_digest"]


async def test_a_long_history_is_sealed_and_verified_in_bounded_memory(
    database: Database, pool: Pool, keys: SealKeys
) -> None:
    await write_books(database, transactions=20_000, wallets=100)

    tracemalloc.start()
    sealed = await seal_all(sealer_of(pool, keys))
    sealing = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    report = await verified(database, SealExpectations(keys.trusted()))
    verifying = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    ended = "status IN ('COMPLETED', 'REVERSED', 'FAILED')"
    assert sealed == await database.fetchval(f"SELECT count(*) FROM transactions WHERE {ended}")
    assert sealed > 20_000
    assert report.clean, report.findings[:3]
    assert report.seals.number == 5
    # A seal holds 5,000 transactions, a page of the check 20,000.
    assert sealing < 12_000_000
    assert verifying < 24_000_000


async def test_the_chain_is_recomputed_whatever_pages_it_is_read_in(
    books: Database, keys: SealKeys
) -> None:
    walk = ChainWalk(trusted=keys.trusted(), leaves=LookedUpLeaves(), transactions_per_page=20)
    pages: list[Any] = []
    while page := await walk.next_page(books):
        pages.append(page)

    assert [(page.seals, page.transactions) for page in pages] == [(1, 15)] * 4
    assert [page.findings for page in pages] == [[]] * 4
    assert list(walk.end_findings()) == []
