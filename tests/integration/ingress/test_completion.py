"""Waiting for the end: which nudges are heeded, and what comes when none does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import pytest

from ingress.submit.completion import LOOK_INTERVAL_S, CompletionWatch, Ending
from processor.poster import Poster
from runtime.postgres.pool import Connection, Pool
from tests.integration.processor.books import add_wallets, random_transfers, record
from tests.integration.reconciler.serving import running
from tests.support import eventually

NAMED_MAX = 32
"""Beyond it a nudge names nobody (migrations/0009)."""
LONG_S = 60.0


@pytest.fixture
async def watch(
    database_url: str, database: Connection, pool: Pool
) -> AsyncIterator[CompletionWatch]:
    """A watch that listens already."""
    watch = CompletionWatch(url=database_url, pool=pool)

    async def listens() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = "
        return bool(await database.fetchval(query + "current_database()"))

    async with running(watch):
        await eventually(listens, what="the watch listens")
        yield watch


async def _record(database: Connection, count: int) -> list[UUID]:
    wallets = await add_wallets(database, 4, balance=1_000_000)
    return await record(database, random_transfers(wallets, count, seed=1, prefix=uuid4().hex))


async def _statuses(endings: Sequence[Ending]) -> list[str | None]:
    async with asyncio.timeout(20):
        return [row["status"] if row else None for row in await asyncio.gather(*endings)]


@pytest.mark.parametrize("count", [1, NAMED_MAX, NAMED_MAX + 1, 500])
async def test_all_of_a_batch_are_read_when_it_is_posted(
    watch: CompletionWatch, database: Connection, pool: Pool, count: int
) -> None:
    ids = await _record(database, count)
    endings = [watch.expect(one, timeout_s=LONG_S, is_new=True) for one in ids]
    await Poster(pool).post(ids)

    assert await _statuses(endings) == ["COMPLETED"] * count


async def test_two_may_wait_for_one(
    watch: CompletionWatch, database: Connection, pool: Pool
) -> None:
    ids = await _record(database, 1)
    endings = [watch.expect(ids[0], timeout_s=LONG_S, is_new=True) for _ in range(2)]
    await Poster(pool).post(ids)

    assert await _statuses(endings) == ["COMPLETED"] * 2


async def test_what_ended_before_is_found_by_looking(
    watch: CompletionWatch, database: Connection, pool: Pool
) -> None:
    ids = await _record(database, 1)
    await Poster(pool).post(ids)
    ending = watch.expect(ids[0], timeout_s=LONG_S)

    assert await _statuses([ending]) == ["COMPLETED"]


async def test_a_nudge_that_was_lost_costs_a_beat_however_many_others_come(
    watch: CompletionWatch, database: Connection, pool: Pool
) -> None:
    lost, *others = await _record(database, 200)
    await Poster(pool).post([lost])
    ending = watch.expect(lost, timeout_s=LONG_S, is_new=True)

    async def post_others() -> None:
        for one in others:
            waited = watch.expect(one, timeout_s=LONG_S, is_new=True)
            await Poster(pool).post([one])
            await waited

    busy = asyncio.ensure_future(post_others())
    assert await _statuses([ending]) == ["COMPLETED"]
    assert not busy.done()
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)


async def test_time_runs_out_for_what_does_not_end(
    watch: CompletionWatch, database: Connection
) -> None:
    ids = await _record(database, 1)

    assert await watch.expect(ids[0], timeout_s=2 * LOOK_INTERVAL_S, is_new=True) is None


async def test_nobody_is_kept_waiting_by_a_watch_that_drains(
    watch: CompletionWatch, database: Connection
) -> None:
    ids = await _record(database, 1)
    before = watch.expect(ids[0], timeout_s=LONG_S, is_new=True)
    await watch.drain()

    assert await before is None
    assert await watch.expect(ids[0], timeout_s=LONG_S, is_new=True) is None
