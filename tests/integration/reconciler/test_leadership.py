"""One leader among many; when it goes, another follows within ten seconds."""

import asyncio
import time

import asyncpg
import pytest

from reconciler.retry_queue import Sweep
from reconciler.schedule import LOCK_KEY, reconciler_leadership
from runtime.postgres.leadership import SILENCE_MAX_S
from runtime.postgres.pool import UNREACHABLE, Connection, Pool, connect
from tests.integration.reconciler.pending import record_pending
from tests.support import eventually, in_passes
from tools.stack import Stack

HAND_OVER_MAX_S = 10.0

_END_LEADER = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'ackledger-reconciler-lead' AND datname = current_database()
AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)
"""


class _Candidate:
    """A process that would lead."""

    def __init__(self, url: str) -> None:
        self.leadership = reconciler_leadership(url)
        self.was_cancelled = False
        self.task = asyncio.ensure_future(self.leadership.lead(self._work))

    async def _work(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise

    async def end(self) -> BaseException | None:
        self.task.cancel()
        [outcome] = await asyncio.gather(self.task, return_exceptions=True)
        return outcome


async def _leader_of(candidates: list[_Candidate]) -> _Candidate:
    async def look() -> _Candidate | None:
        leaders = [one for one in candidates if one.leadership.is_leader]
        return leaders[0] if len(leaders) == 1 else None

    return await eventually(look, what="one leader", within_s=HAND_OVER_MAX_S)


async def test_a_leader_whose_connection_is_lost_stops_and_another_follows(
    database: Connection, database_url: str
) -> None:
    candidates = [_Candidate(database_url) for _ in range(3)]
    first = await _leader_of(candidates)
    others = [one for one in candidates if one is not first]
    started = time.monotonic()

    await database.execute(_END_LEADER)
    second = await _leader_of(others)
    took_s = time.monotonic() - started

    [error] = await asyncio.gather(first.task, return_exceptions=True)
    assert first.was_cancelled
    # What its connection ended with depends on the step in which that met it.
    assert isinstance(error, UNREACHABLE)
    assert not first.leadership.is_leader
    assert took_s < HAND_OVER_MAX_S
    await asyncio.gather(*(one.end() for one in others))
    assert not second.leadership.is_leader


async def test_a_leader_that_ends_hands_over(database_url: str) -> None:
    candidates = [_Candidate(database_url) for _ in range(2)]
    first = await _leader_of(candidates)

    await first.end()
    second = await _leader_of([one for one in candidates if one is not first])

    assert second is not first
    await second.end()


async def test_a_leader_that_falls_silent_loses_the_lead(database_url: str) -> None:
    """A stopped process keeps its session: the server ends it when it says nothing."""
    stopped = await connect(
        database_url,
        name="test",
        session={"idle_session_timeout": str(int(SILENCE_MAX_S * 1000))},
    )
    assert await stopped.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY)
    candidate = _Candidate(database_url)

    follower = await _leader_of([candidate])

    assert follower.leadership.is_leader
    await candidate.end()
    await stopped.close()


async def test_a_leader_that_stops_inside_a_step_keeps_its_locks_no_longer_than_the_lead(
    pool: Pool, database: Connection
) -> None:
    await record_pending(database, 3)
    stopped = await pool.acquire()
    step = stopped.transaction()
    await step.start()
    await stopped.execute("SELECT 1 FROM sweep_progress FOR UPDATE")

    async def sweep() -> int:
        return (await Sweep(pool).run_once(older_than_s=0)).swept

    async with asyncio.timeout(HAND_OVER_MAX_S):
        swept = await in_passes(sweep, count=3, what="all are swept")

    # Its connection is gone; the pool makes another in its place.
    with pytest.raises(asyncpg.InterfaceError):
        await step.rollback()
    await pool.release(stopped)
    assert swept == 3


async def test_the_lead_of_one_database_is_not_the_lead_of_another(
    database_url: str, stack: Stack
) -> None:
    candidates = [_Candidate(database_url), _Candidate(stack.postgres.url)]

    async def both_lead() -> bool:
        return all(one.leadership.is_leader for one in candidates)

    assert await eventually(both_lead, what="two leaders of two databases")
    await asyncio.gather(*(one.end() for one in candidates))
