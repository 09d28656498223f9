"""What rules have counted is forgotten once no window holds it."""

import pytest

from ledger.screening import COUNT, counter_key
from reconciler import counters
from reconciler.counters import CounterSweep
from runtime.postgres.pool import Connection, Pool
from runtime.screening.model import DAILY, window_of
from tests.integration.processor.ruling import add_rule, velocity


async def _add(database: Connection, number: int, subject: str, bucket: int) -> None:
    key = counter_key(number, COUNT, subject)
    await database.execute("INSERT INTO rule_counters VALUES ($1, $2, '1')", key, bucket)


async def _number(database: Connection) -> int:
    """Add a rule that counts; return its number."""
    await add_rule(database, "hour", "velocity", velocity("wallet", count_max=1))
    number: int = await database.fetchval("SELECT number FROM rules")
    return number


async def _left(database: Connection) -> set[str]:
    return {
        row[0] for row in await database.fetch("SELECT split_part(key, '|', 3) FROM rule_counters")
    }


async def test_a_counter_is_forgotten_with_the_last_bucket_of_its_window(
    database: Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "ROWS_PER_STEP_MAX", 2)
    number = await _number(database)
    window = window_of(3600)
    now = window.bucket_at((await database.fetchval("SELECT now()")).timestamp())
    for subject, age in (("now", 0), ("in", 11), ("out", 14), ("long-ago", 900)):
        await _add(database, number, subject, now - age)
    day = (await database.fetchval("SELECT extract(epoch FROM now())::bigint / 86400")) or 0
    await _add(database, DAILY, "today", day)
    await _add(database, DAILY, "yesterday", day - 2)
    sweep = CounterSweep(pool)

    assert sum([await sweep.run_once() for _ in range(4)]) == 3
    assert await _left(database) == {"now", "in", "today"}


async def test_a_counter_that_a_batch_has_locked_is_left_alone(
    database: Connection, pool: Pool
) -> None:
    number = await _number(database)
    await _add(database, number, "locked", 0)
    async with database.transaction():
        await database.execute("SELECT FROM rule_counters FOR NO KEY UPDATE")
        assert await CounterSweep(pool).run_once() == 0
    assert await CounterSweep(pool).run_once() == 1
