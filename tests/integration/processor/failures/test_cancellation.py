"""Cancelled in its commit or just before it: nobody knows what happened, nothing is doubled."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from processor.deciding import GENERATION_MAX, WalletCache
from processor.poster import Poster
from runtime.postgres.pool import Connection, Pool, connect
from runtime.resilience.error_classification import ErrorClass, InterruptedPostingError, classify
from runtime.service.fault_points import Fault, FaultPoint, FaultPoints, OrderedFaultPoints
from tests.integration.processor.books import open_pool
from tests.integration.processor.failures.conftest import Site
from tests.integration.processor.failures.workshop import (
    Signalling,
    Transfers,
    all_completed,
    announce,
    assert_posted_once,
    completed,
    nothing_unsettled,
    processing,
    recorded_transfers,
)
from tests.support import eventually

_POINT = FaultPoint.PROCESSOR_BEFORE_COMMIT
_GATE = 4711


class _CancelledBeforeCommit(FaultPoints):
    """Cancels the posting while its commit is not sent yet."""

    async def reach(self, point: FaultPoint) -> None:
        """Cancel, and let it take effect here."""
        assert point is _POINT
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)


class _CancelledByOrder(FaultPoints):
    """Hands out the task that posts, for the test to cancel when it likes."""

    def __init__(self) -> None:
        self.task: asyncio.Task[object] | None = None

    async def reach(self, point: FaultPoint) -> None:
        """Remember who posts."""
        assert point is _POINT
        self.task = asyncio.current_task()


def _order(directory: Path) -> OrderedFaultPoints:
    (directory / _POINT.value).write_text(Fault.CANCEL.value)
    return OrderedFaultPoints(directory)


@asynccontextmanager
async def _closed_gate(database: Connection, database_url: str) -> AsyncIterator[Connection]:
    """Let every commit of entries wait inside the server until the gate is unlocked."""
    await database.execute(
        "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_advisory_xact_lock_shared({_GATE}); RETURN NULL; END $$"
    )
    await database.execute(
        "CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON entries DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION wait_at_gate()"
    )
    keeper = await connect(database_url, name="test")
    await keeper.execute("SELECT pg_advisory_lock($1)", _GATE)
    try:
        yield keeper
    finally:
        await keeper.close()


async def _committing(database: Connection) -> None:
    async def look() -> bool:
        return bool(
            await database.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' "
                "AND datname = current_database()"
            )
        )

    await eventually(look, what="a commit under way")


@pytest.fixture(params=[0, GENERATION_MAX], ids=["locked wallets", "remembered wallets"])
def wallet_cache(request: pytest.FixtureRequest) -> WalletCache:
    """Of a poster that writes and commits in two steps, and of one that does it in one."""
    return WalletCache(generation_max=request.param)


async def _poster(
    pool: Pool, wallet_cache: WalletCache, fault_points: FaultPoints, transfers: Transfers
) -> Poster:
    """Return a poster that knows the wallets, if it ever does: the first transfer is posted."""
    await Poster(pool, wallet_cache=wallet_cache).post(transfers.ids[:1])
    return Poster(pool, wallet_cache=wallet_cache, fault_points=fault_points)


async def _interrupted(poster: Poster, ids: Sequence[UUID]) -> ErrorClass:
    with pytest.raises(InterruptedPostingError) as raised:
        await poster.post(ids)
    return classify(raised.value)


async def test_a_posting_cancelled_before_its_commit_is_undone_and_done_again(
    database: Connection, database_url: str, wallet_cache: WalletCache
) -> None:
    transfers = await recorded_transfers(database, 4)
    async with open_pool(database_url) as pool:
        poster = await _poster(pool, wallet_cache, _CancelledBeforeCommit(), transfers)
        fate = await _interrupted(poster, transfers.ids)
        before = await completed(database, transfers.ids)
        await Poster(pool).post(transfers.ids)

    assert (fate, before) == (ErrorClass.TRANSIENT, 1)
    await assert_posted_once(database, transfers)


async def test_a_posting_cancelled_as_its_commit_leaves_is_not_done_twice(
    database: Connection, database_url: str, wallet_cache: WalletCache, tmp_path: Path
) -> None:
    transfers = await recorded_transfers(database, 4)
    async with open_pool(database_url) as pool:
        poster = await _poster(pool, wallet_cache, _order(tmp_path), transfers)
        fate = await _interrupted(poster, transfers.ids)
        await Poster(pool).post(transfers.ids)

    assert fate is ErrorClass.TRANSIENT
    await assert_posted_once(database, transfers)


async def test_a_commit_that_the_server_gives_up_is_done_again(
    database: Connection, database_url: str, wallet_cache: WalletCache
) -> None:
    """Cancelled inside, the library cancels the commit on the server, which still can undo it."""
    transfers = await recorded_transfers(database, 4)
    points = _CancelledByOrder()
    async with open_pool(database_url) as pool:
        poster = await _poster(pool, wallet_cache, points, transfers)
        async with _closed_gate(database, database_url):
            posting = asyncio.ensure_future(poster.post(transfers.ids))
            await _committing(database)
            assert points.task is not None
            points.task.cancel()
            with pytest.raises(InterruptedPostingError):
                await posting
            before = await completed(database, transfers.ids)
        await Poster(pool).post(transfers.ids)

    assert before == 1
    await assert_posted_once(database, transfers)


async def test_cancelling_whoever_waits_never_cancels_a_commit_under_way(
    database: Connection, database_url: str
) -> None:
    transfers = await recorded_transfers(database, 3)
    async with open_pool(database_url) as pool, _closed_gate(database, database_url) as keeper:
        waiting = asyncio.ensure_future(Poster(pool).post(transfers.ids))
        await _committing(database)
        waiting.cancel()
        await asyncio.wait({waiting})
        before = await completed(database, transfers.ids)
        await keeper.execute("SELECT pg_advisory_unlock($1)", _GATE)
        await all_completed(database, transfers.ids)

    assert waiting.cancelled()
    assert before == 0
    await assert_posted_once(database, transfers)


async def test_a_processor_whose_commit_is_cancelled_posts_once_and_acks(
    database: Connection, site: Site, tmp_path: Path
) -> None:
    transfers = await recorded_transfers(database, 5)
    points = _order(tmp_path)
    async with processing(site.database_url, site.broker_url, fault_points=points) as workshop:
        await announce(site.publisher, transfers.ids[:3])
        await all_completed(database, transfers.ids[:3])
        await announce(site.publisher, transfers.ids[3:])
        await all_completed(database, transfers.ids)
        is_open = workshop.circuit.is_open
    await nothing_unsettled(site.channel)

    assert (tmp_path / f"{_POINT.value}.struck").exists()
    assert not is_open
    await assert_posted_once(database, transfers)


async def test_a_processor_ended_in_its_commit_leaves_nothing_half_done(
    database: Connection, site: Site
) -> None:
    transfers = await recorded_transfers(database, 3)
    points = Signalling(_POINT)
    async with processing(site.database_url, site.broker_url, fault_points=points, is_killed=True):
        await announce(site.publisher, transfers.ids)
        async with asyncio.timeout(10):
            await points.reached.wait()
    async with processing(site.database_url, site.broker_url):
        await all_completed(database, transfers.ids)

    await assert_posted_once(database, transfers)
