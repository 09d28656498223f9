"""What has ended is sealed once, in one chain, whatever dies in between."""

import asyncio
from pathlib import Path
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from reconciler.retry_queue import REWIND
from reconciler.sealing import BrokenChainError, SealCounts, Sealer
from runtime.postgres.pool import Pool, connect
from runtime.service.fault_points import FaultPoint, FaultPoints
from runtime.service.key_directory import SigningKeyError
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
from tests.support import in_passes
from verification.seal_keys import SealKeys
from verification.seals import GENESIS


async def _sealed_ids(database: Database) -> list[UUID]:
    rows = await database.fetch(
        "SELECT m.id FROM seals, unnest(transaction_ids) WITH ORDINALITY AS m (id, place)"
        " ORDER BY number, place"
    )
    return [row["id"] for row in rows]


async def test_a_seal_recomputes_from_the_tables_by_the_documented_format(
    database: Database, database_url: str, pool: Pool
) -> None:
    ids = await record_transfers(database, 40)
    # One is refused: its wallet does not exist.
    await database.execute(
        "UPDATE transactions SET destination_wallet_id = gen_random_uuid() WHERE id = $1", ids[3]
    )
    await post(database_url, ids)

    sealed = await seal_all(sealer_of(pool, seal_max=25))

    assert sealed == 40
    seals = await database.fetch("SELECT * FROM seals ORDER BY number")
    assert [seal["number"] for seal in seals] == [1, 2]
    assert [seal["transactions"] for seal in seals] == [25, 15]
    assert [seal["entries"] for seal in seals] == [48, 30]
    assert seals[0]["previous"] == GENESIS
    assert seals[1]["previous"] == seals[0]["digest"]
    for seal in seals:
        assert seal["digest"] == await digest_from_tables(database, seal)
    assert await _sealed_ids(database) == ids


async def test_empty_books_have_no_seal_and_are_clean(database: Database, pool: Pool) -> None:
    counts = await sealer_of(pool).run_once()

    report = await verified(database)

    assert counts == SealCounts(sealed=0, number=None, is_caught_up=True)
    assert report.clean
    assert report.seals.latest is None


async def test_what_ends_long_after_it_was_passed_is_sealed_when_it_has(
    database: Database, database_url: str, pool: Pool
) -> None:
    ids = await record_transfers(database, 6)
    late, discarded = ids[1], ids[2]
    await database.execute(
        "SELECT end_transactions(clock_timestamp(), ARRAY[$1::uuid], 'PENDING', 'QUARANTINED',"
        " ARRAY[NULL], ARRAY[NULL])",
        discarded,
    )
    await post(database_url, [ids[0], *ids[3:]])
    sealer = sealer_of(pool)
    first = await sealer.run_once()
    in_between = await verified(database)
    await post(database_url, [late])
    await database.execute(
        "SELECT end_transactions(clock_timestamp(), ARRAY[$1::uuid], 'QUARANTINED', 'FAILED',"
        " ARRAY['discarded'], ARRAY['given up'])",
        discarded,
    )

    second = await sealer.run_once()

    assert (first.sealed, second.sealed) == (4, 2)
    assert in_between.clean
    assert sorted(await _sealed_ids(database)) == ids
    assert await database.fetchval("SELECT count(*) FROM unsealed_transactions") == 0
    assert (await verified(database)).clean


async def test_a_reversal_changes_no_seal(
    database: Database, database_url: str, pool: Pool
) -> None:
    ids = await record_transfers(database, 5)
    await post(database_url, ids)
    sealer = sealer_of(pool)
    await seal_all(sealer)

    await database.execute("UPDATE transactions SET status = 'REVERSED' WHERE id = $1", ids[0])
    await database.execute(
        "INSERT INTO exceptional_transactions (status, transaction_id) VALUES ('REVERSED', $1)",
        ids[0],
    )

    assert await seal_all(sealer) == 0
    seal_checks = {check for check in checks_of(await verified(database)) if "seal" in check}
    assert seal_checks == set()


async def test_the_walk_waits_for_a_young_transaction_and_lists_an_old_one(
    database: Database, database_url: str, pool: Pool
) -> None:
    ids = await record_transfers(database, 4)
    await post(database_url, [ids[0], ids[1], ids[3]])
    patient = Sealer(pool, keys=None, interval_s=60, lag_s=0, patience_s=3600)

    before = await patient.run_once()
    listed = await database.fetchval("SELECT count(*) FROM unsealed_transactions")
    after = await sealer_of(pool).run_once()

    assert (before.sealed, listed) == (2, 0)
    assert after.sealed == 1
    assert await database.fetchval("SELECT transaction_id FROM unsealed_transactions") == ids[2]


async def test_what_a_database_transaction_may_still_commit_holds_the_walk_back(
    database: Database, database_url: str, pool: Pool
) -> None:
    other = await connect(database_url, name="test")
    async with other.transaction():
        hidden = await record_transfers(other, 2, prefix="hidden")
        # Its wallets are there for the others only when it commits.
        sealer = sealer_of(pool)
        while_open = await sealer.run_once()
        [progress] = await database.fetch("SELECT walked_until FROM seal_progress")
    await other.close()
    await post(database_url, hidden)

    after = await sealer.run_once()

    assert while_open.sealed == 0
    assert progress["walked_until"] < hidden[0]
    assert after.sealed == 2
    assert (await verified(database)).clean


class _Struck(FaultPoints):
    """Fails at one point, as a process that is killed there."""

    def __init__(self, point: FaultPoint) -> None:
        self._point = point

    async def reach(self, point: FaultPoint) -> None:
        if point is self._point:
            raise ConnectionResetError(point)


@pytest.mark.parametrize("point", [FaultPoint.RECONCILER_SEALING, FaultPoint.RECONCILER_SEALED])
async def test_a_reconciler_that_dies_between_two_steps_neither_skips_nor_doubles(
    database: Database, database_url: str, pool: Pool, keys: SealKeys, point: FaultPoint
) -> None:
    ids = await record_transfers(database, 30)
    await post(database_url, ids)
    dying = Sealer(
        pool, keys=keys, interval_s=60, seal_max=20, lag_s=0, fault_points=_Struck(point)
    )
    with pytest.raises(ConnectionResetError):
        await dying.run_once()

    await seal_all(sealer_of(pool, keys, seal_max=20))

    assert await _sealed_ids(database) == ids
    assert (await verified(database)).clean


async def test_two_leaders_at_once_make_one_chain(
    database: Database, database_url: str, pool: Pool, keys: SealKeys
) -> None:
    ids = await record_transfers(database, 400)
    await post(database_url, ids)
    sealers = [sealer_of(pool, keys, seal_max=15) for _ in range(3)]

    async def seal_at_once() -> int:
        return sum(await asyncio.gather(*(seal_all(sealer) for sealer in sealers)))

    assert await in_passes(seal_at_once, count=400, what="all are sealed") == 400
    assert await _sealed_ids(database) == ids
    assert (await verified(database)).clean


async def test_a_database_clock_that_was_set_back_leaves_nothing_out_and_doubles_nothing(
    database: Database, database_url: str, pool: Pool
) -> None:
    first = await record_transfers(database, 10, prefix="before")
    await post(database_url, first)
    sealer = sealer_of(pool)
    await seal_all(sealer)
    # As if the walk had come an hour further before the clock was set back.
    await database.execute(
        "UPDATE seal_progress SET walked_until = uuid_v7(clock_us() + 3600 * 1000000::bigint)"
    )
    second = await record_transfers(database, 10, prefix="after")
    await post(database_url, second)

    sealed = await seal_all(sealer)

    assert REWIND.total_seconds() > 60
    assert sealed == 10
    assert sorted(await _sealed_ids(database)) == sorted([*first, *second])
    assert (await verified(database)).clean


async def test_a_clock_that_was_set_back_by_less_than_the_walk_stays_behind_is_noticed_too(
    database: Database, database_url: str, pool: Pool
) -> None:
    sealer = sealer_of(pool)
    await record_transfers(database, 1)
    await sealer.run_once()
    # Rows that come in behind the walk, as they do while the clock runs through its past again.
    await database.execute("UPDATE seal_progress SET walked_until = uuid_v7(clock_us())")
    ids = await record_transfers(database, 3, prefix="behind")
    await database.execute("UPDATE seal_progress SET walked_until = uuid_v7(clock_us())")
    await post(database_url, ids)
    unnoticed = (await sealer.run_once()).sealed
    assert sealer._clock_lead_s is not None
    sealer._clock_lead_s += 5
    # The step that notices finds nothing that it may take yet; what it noticed is not forgotten.
    sealer._patience_s = 3600
    held_back = (await sealer.run_once()).sealed
    sealer._patience_s = 0

    noticed = await seal_all(sealer)

    assert (unnoticed, held_back, noticed) == (0, 0, 3)
    assert (await verified(database)).clean


async def test_a_chain_that_does_not_end_as_it_was_left_is_not_continued(
    database: Database, database_url: str, pool: Pool, keys: SealKeys
) -> None:
    ids = await record_transfers(database, 9)
    await post(database_url, ids)
    await seal_all(sealer_of(pool, keys, seal_max=3))
    # What would let a sealer sign a history that was rewritten.
    await database.execute(
        f"{UNGUARD} DELETE FROM seals WHERE number = 3;"
        "UPDATE seal_progress SET walked_until = uuid_v7(0)"
    )

    with pytest.raises(BrokenChainError, match="seal 3: it is gone"):
        await sealer_of(pool, keys).run_once()

    assert await database.fetchval("SELECT max(number) FROM seals") == 2
    found = await database.fetch("SELECT check_name, subject FROM integrity_findings")
    assert [(row["check_name"], row["subject"]) for row in found] == [("seal_chain", "seal 3")]


async def test_seals_take_no_change(database: Database, database_url: str, pool: Pool) -> None:
    await post(database_url, await record_transfers(database, 2))
    await seal_all(sealer_of(pool))

    for statement in ("UPDATE seals SET until = now()", "DELETE FROM seals"):
        with pytest.raises(Exception, match=r"permission denied|append-only"):
            await database.execute(statement)


async def test_no_seal_is_signed_while_the_key_is_away(
    pool: Pool, keys: SealKeys, tmp_path: Path
) -> None:
    sealer = sealer_of(pool, keys)
    await sealer.run_once()
    assert REGISTRY.get_sample_value("ackledger_seal_is_signed") == 1
    signing = tmp_path / "seal-keys" / "signing.pem"
    away = signing.rename(signing.with_suffix(".away"))

    with pytest.raises(SigningKeyError):
        await sealer.run_once()

    assert REGISTRY.get_sample_value("ackledger_seal_is_signed") == 0
    away.rename(signing)
    await sealer.run_once()
    assert REGISTRY.get_sample_value("ackledger_seal_is_signed") == 1
