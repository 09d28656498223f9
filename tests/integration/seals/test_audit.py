"""The audit log in the chain of seals: what was done by whom can neither be changed nor removed."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import pytest

from runtime.postgres.audit import Trail, note_act
from runtime.postgres.pool import Pool, connect
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
from verification.checks import Check
from verification.seals import AUDIT_PER_SEAL_MAX

_UNGUARD_AUDIT: Final = f"""
{UNGUARD}
ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only;
GRANT UPDATE, DELETE ON audit_log TO CURRENT_USER;
"""


async def _act(database: Database, *names: str) -> list[UUID]:
    """Note acts, and return their ids in order."""
    for name in names:
        await note_act(
            database,
            Trail("ann", "192.0.2.7", "r-1"),
            action="wallet.changed",
            subject=f"wallet:{name}",
            detail={"status": "FROZEN", "ü": [1.0]},
        )
    rows = await database.fetch("SELECT id FROM audit_log ORDER BY id")
    return [row["id"] for row in rows][-len(names) :]


async def _audited(database: Database) -> list[UUID]:
    """Return what the seals name, in their order."""
    rows = await database.fetch("SELECT audit_ids FROM seals ORDER BY number")
    return [one for row in rows for one in row["audit_ids"] or ()]


async def _subjects(database: Database) -> Sequence[tuple[Check, str]]:
    return [(one.check, one.subject) for one in (await verified(database)).findings]


async def test_the_digest_is_what_the_document_says(
    database: Database, database_url: str, pool: Pool
) -> None:
    await post(database_url, await record_transfers(database, 20))
    await _act(database, "a", "b")
    await database.execute(
        "INSERT INTO audit_log (actor, action, subject) VALUES ('cli:bob', 'x', 'y')"
    )
    sealer = sealer_of(pool)
    await seal_all(sealer)
    await post(database_url, await record_transfers(database, 3, prefix="later"))
    await seal_all(sealer)

    seals = await database.fetch("SELECT * FROM seals ORDER BY number")

    assert [seal["format"] for seal in seals] == [2, 1]
    for seal in seals:
        assert seal["digest"] == await digest_from_tables(database, seal)
    assert (await verified(database)).clean


async def test_an_act_alone_makes_a_seal(database: Database, pool: Pool) -> None:
    ids = await _act(database, "a")
    sealer = sealer_of(pool)

    counts = await sealer.run_once()
    again = await sealer.run_once()

    assert (counts.number, counts.sealed, again.number) == (1, 0, None)
    assert await _audited(database) == ids
    assert (await verified(database)).clean


async def test_a_changed_record_is_named(database: Database, pool: Pool) -> None:
    ids = await _act(database, "a", "b", "c")
    await seal_all(sealer_of(pool))
    await database.execute(_UNGUARD_AUDIT)
    await database.execute("CREATE TABLE kept AS SELECT * FROM audit_log")
    for column, value in (
        ("actor", "'bob'"),
        ("action", "'wallet.read'"),
        ("subject", "'wallet:z'"),
        ("detail", "'{}'"),
        ("address", "NULL"),
        ("request_id", "''"),
        ("occurred_at", "occurred_at - interval '1 microsecond'"),
    ):
        await database.execute(f"UPDATE audit_log SET {column} = {value} WHERE id = $1", ids[1])

        found = await _subjects(database)

        await database.execute(
            f"UPDATE audit_log AS a SET {column} = k.{column} FROM kept AS k WHERE a.id = k.id"
        )
        assert found == [(Check.SEAL_DIGEST, f"audit record {ids[1]}")], column
    assert (await verified(database)).clean


async def test_a_removed_record_is_named(database: Database, pool: Pool) -> None:
    ids = await _act(database, "a", "b", "c")
    await seal_all(sealer_of(pool))
    await database.execute(_UNGUARD_AUDIT)

    await database.execute("DELETE FROM audit_log WHERE id = $1", ids[0])

    [finding] = (await verified(database)).findings
    assert (finding.check, finding.subject) == (Check.SEAL_DIGEST, f"audit record {ids[0]}")
    assert finding.detail.startswith("it is gone")


async def test_a_record_that_was_slipped_in_is_in_no_seal(database: Database, pool: Pool) -> None:
    ids = await _act(database, "a", "b")
    await seal_all(sealer_of(pool))

    forged = UUID(int=ids[0].int + 1)
    await database.execute(
        "INSERT INTO audit_log (id, actor, action, subject) VALUES ($1, 'eve', 'x', 'y')", forged
    )

    assert await _subjects(database) == [(Check.SEAL_MISSING, f"audit record {forged}")]


@pytest.mark.parametrize(
    "change",
    [
        "audit_ids = NULL, transactions = transactions",
        "audit_ids = audit_ids[1:1]",
        "format = 1",
        "format = 1, audit_ids = NULL",
        "format = 3",
    ],
)
async def test_a_seal_does_not_let_its_records_go(
    database: Database, database_url: str, pool: Pool, change: str
) -> None:
    await post(database_url, await record_transfers(database, 3))
    await _act(database, "a", "b")
    await seal_all(sealer_of(pool))
    await database.execute(_UNGUARD_AUDIT)

    await database.execute(f"UPDATE seals SET {change} WHERE number = 1")

    assert Check.SEAL_DIGEST in checks_of(await verified(database))


async def test_a_seal_from_before_there_were_records_takes_none_over(
    database: Database, database_url: str, pool: Pool
) -> None:
    """What a seal of format 1 names is not in its digest, and so is not sealed."""
    await post(database_url, await record_transfers(database, 3))
    await seal_all(sealer_of(pool))
    ids = await _act(database, "a")
    await database.execute(_UNGUARD_AUDIT)

    await database.execute("UPDATE seals SET audit_ids = $1", ids)
    await database.execute("UPDATE seal_progress SET audited_until = $1", UUID(int=2**128 - 1))

    assert Check.SEAL_DIGEST in checks_of(await verified(database))


async def test_many_acts_are_sealed_in_portions(database: Database, pool: Pool) -> None:
    await database.execute(
        "INSERT INTO audit_log (id, actor, action, subject)"
        " SELECT uuid_v7(clock_us(), n), 'ann', 'x', n::text FROM generate_series(1, $1) AS n",
        AUDIT_PER_SEAL_MAX + 5,
    )
    sealer = sealer_of(pool)

    first = await sealer.run_once()
    await seal_all(sealer)

    assert not first.is_caught_up
    sizes = await database.fetch("SELECT cardinality(audit_ids) FROM seals ORDER BY number")
    assert [row[0] for row in sizes] == [AUDIT_PER_SEAL_MAX, 5]
    assert (await verified(database)).clean


async def test_an_act_that_is_committed_late_is_not_passed_over(
    database: Database, database_url: str, pool: Pool
) -> None:
    other = await connect(database_url, name="test")
    sealer = sealer_of(pool)
    async with other.transaction():
        [late] = await _act(other, "late")
        [early] = await _act(database, "early")
        await sealer.run_once()
    await other.close()

    await seal_all(sealer)

    assert await _audited(database) == [late, early]
    assert (await verified(database)).clean


async def test_what_is_walked_again_is_sealed_once(database: Database, pool: Pool) -> None:
    """After the database's clock was set back, the walk begins where it may have missed some."""
    before = await _act(database, "a", "b", "c")
    sealer = sealer_of(pool)
    await seal_all(sealer)
    await database.execute(
        "UPDATE seal_progress SET audited_before = audited_until, audited_until = $1", before[0]
    )
    after = await _act(database, "d")

    await seal_all(sealer)

    assert await _audited(database) == [*before, *after]
    assert (await verified(database)).clean
