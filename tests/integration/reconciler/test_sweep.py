"""The sweep finds what is PENDING, once, and skips nothing that commits late."""

import asyncio
from datetime import timedelta
from uuid import UUID

from contracts.identifiers import first_id_at
from reconciler import retry_queue
from reconciler.retry_queue import Sweep, SweepCounts
from runtime.postgres.pool import Connection, Pool, connect
from tests.integration.reconciler.pending import record_pending
from tests.support import in_passes


async def _retry_queue(connection: Connection) -> list[UUID]:
    rows = await connection.fetch(
        "SELECT transaction_id FROM stale_transactions ORDER BY next_attempt_at, transaction_id"
    )
    return [row["transaction_id"] for row in rows]


async def test_what_is_pending_past_the_threshold_goes_to_the_retry_queue(
    pool: Pool, database: Connection
) -> None:
    ids = await record_pending(database, 3)
    await database.execute("UPDATE transactions SET status = 'FAILED' WHERE id = $1", ids[1])

    counts = await Sweep(pool).run_once(older_than_s=0)

    assert counts == SweepCounts(swept=3, stale=2)
    assert await _retry_queue(database) == [ids[0], ids[2]]


async def test_what_is_younger_than_the_threshold_is_left_alone(
    pool: Pool, database: Connection
) -> None:
    await record_pending(database, 3)

    assert await Sweep(pool).run_once(older_than_s=60) == SweepCounts(swept=0, stale=0)
    assert await Sweep(pool).run_once(older_than_s=0) == SweepCounts(swept=3, stale=3)


async def test_a_row_is_swept_once(pool: Pool, database: Connection) -> None:
    await record_pending(database, 3)
    sweep = Sweep(pool)

    await sweep.run_once(older_than_s=0)

    assert await sweep.run_once(older_than_s=0) == SweepCounts(swept=0, stale=0)


async def test_a_group_that_commits_late_is_not_skipped(
    pool: Pool, database: Connection, database_url: str
) -> None:
    late = await connect(database_url, name="test")
    insertion = late.transaction()
    await insertion.start()
    late_ids = await record_pending(late, 2)
    early_ids = await record_pending(database, 2)
    sweep = Sweep(pool, reader_after_s=0)

    before = await sweep.run_once(older_than_s=0)
    await insertion.commit()
    after = await sweep.run_once(older_than_s=0)
    await late.close()

    assert before == SweepCounts(swept=0, stale=0)
    assert after == SweepCounts(swept=4, stale=4)
    assert await _retry_queue(database) == late_ids + early_ids


async def test_a_transaction_that_only_reads_holds_nobody_up(
    pool: Pool, database: Connection, database_url: str
) -> None:
    reader = await connect(database_url, name="test")
    async with reader.transaction(isolation="repeatable_read", readonly=True):
        await reader.fetchval("SELECT count(*) FROM transactions")
        await record_pending(database, 2)

        counts = await Sweep(pool, reader_after_s=0).run_once(older_than_s=0)

    await reader.close()
    assert counts == SweepCounts(swept=2, stale=2)


async def test_a_long_history_is_walked_in_steps_to_its_end(
    pool: Pool, database: Connection
) -> None:
    group = 10_000
    for _ in range(5):
        await record_pending(database, group)

    counts = await Sweep(pool).run_once(older_than_s=0)

    assert counts.stale == 5 * group
    # The last row of each full step is read again by the next one.
    assert counts.swept == 5 * group + 5 * group // retry_queue.ROWS_PER_STEP_MAX
    assert len(await _retry_queue(database)) == 5 * group


async def test_a_clock_that_was_set_back_is_noticed(pool: Pool, database: Connection) -> None:
    ids = await record_pending(database, 1)
    now = await database.fetchval("SELECT clock_timestamp()")
    await database.execute(
        "UPDATE sweep_progress SET swept_until = $1", first_id_at(now + timedelta(hours=1))
    )

    counts = await Sweep(pool).run_once(older_than_s=0)

    assert counts == SweepCounts(swept=1, stale=1)
    assert await _retry_queue(database) == ids


async def test_two_sweeps_at_once_find_each_row_once(pool: Pool, database: Connection) -> None:
    ids = await record_pending(database, 500)

    async def three_at_once() -> int:
        sweeps = (Sweep(pool).run_once(older_than_s=0) for _ in range(3))
        return sum(one.stale for one in await asyncio.gather(*sweeps))

    assert await in_passes(three_at_once, count=500, what="each row") == 500
    assert await _retry_queue(database) == ids
