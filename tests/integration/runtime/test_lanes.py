"""A lane keeps its connection between uses, and gives it back when anything is wrong with it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest

from runtime.postgres.pool import NOT_KEPT, Connection, Lane, Pool, create_pool
from tests.support import eventually

_PID = "SELECT pg_backend_pid()"
_ASLEEP = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'
)
"""
_DEAF = """
DO $$
BEGIN
    PERFORM pg_sleep(60);
EXCEPTION WHEN query_canceled THEN
    PERFORM pg_sleep(2);
END
$$
"""
"""Goes on after it was cancelled, for longer than the library waits."""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool of which one connection may be kept."""
    size = NOT_KEPT + 1
    async with create_pool(database_url, name="test", size=size, statement_timeout_s=60) as pool:
        yield pool


async def _pid(lane: Lane) -> int:
    async with lane.use() as connection:
        return int(await connection.fetchval(_PID))


async def _fail(lane: Lane) -> None:
    async with lane.use() as connection:
        await connection.execute("BEGIN")
        raise ZeroDivisionError


async def test_uses_one_after_the_other_have_one_connection_that_is_never_idle(
    pool: Pool,
) -> None:
    lane = Lane(pool)
    pids = {await _pid(lane) for _ in range(3)}

    assert len(pids) == 1
    assert (pool.get_size(), pool.get_idle_size()) == (1, 0)


async def test_a_use_beside_another_borrows(pool: Pool) -> None:
    lane = Lane(pool)
    async with lane.use() as connection:
        kept = await connection.fetchval(_PID)
        other = await _pid(lane)

    assert other != kept
    assert await _pid(lane) == kept
    assert pool.get_idle_size() == 1


async def test_a_connection_that_nobody_used_for_long_is_replaced(pool: Pool) -> None:
    """A firewall drops it without a word, and whoever uses it waits for its time-out."""
    lane = Lane(pool, inactive_max_s=0.0)
    pids = [await _pid(lane) for _ in range(3)]

    assert len(set(pids)) == 3
    assert pool.get_size() == 1


async def test_what_failed_goes_back_with_its_transaction_undone(pool: Pool) -> None:
    lane = Lane(pool)
    with pytest.raises(ZeroDivisionError):
        await _fail(lane)

    assert (pool.get_size(), pool.get_idle_size()) == (1, 1)
    async with lane.use() as connection:
        assert not connection.is_in_transaction()


async def test_a_server_that_fell_silent_is_not_asked_again(pool: Pool) -> None:
    lane = Lane(pool)
    before = await _pid(lane)
    with pytest.raises(TimeoutError):
        async with lane.use() as connection:
            await connection.execute("SELECT pg_sleep(60)", timeout=0.1)

    assert await _pid(lane) != before


async def test_a_connection_that_died_between_two_uses_is_replaced(
    pool: Pool, database: Connection
) -> None:
    lane = Lane(pool)
    before = await _pid(lane)
    await database.execute("SELECT pg_terminate_backend($1)", before)

    async def is_noticed() -> bool:
        return pool.get_size() == 0

    await eventually(is_noticed, what="a connection that is gone")
    assert await _pid(lane) != before


async def _die_in_use(lane: Lane, admin: Connection) -> None:
    async def use() -> None:
        async with lane.use() as connection:
            pid = int(await connection.fetchval(_PID))
            await admin.execute("SELECT pg_terminate_backend($1, 5000)", pid)
            await connection.execute(_PID)

    with pytest.raises(
        (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    ):
        await use()


async def _give_up(lane: Lane, _: Connection) -> None:
    """As the library does by itself when a session ends just as a statement is sent to it."""
    async with lane.use() as connection:
        await connection.execute(_PID)
        connection._protocol.abort()  # type: ignore[union-attr]  # of the library


@pytest.mark.parametrize("die", [_die_in_use, _give_up])
async def test_a_pool_gets_back_the_place_of_each_connection_that_died(
    pool: Pool, database: Connection, die: Callable[[Lane, Connection], Awaitable[None]]
) -> None:
    """The library takes back by itself what the server closed, not what it gave up itself."""
    lane = Lane(pool)
    for _ in range(pool.get_max_size() + 1):
        async with asyncio.timeout(5):
            await die(lane, database)
    await lane.close()

    async with asyncio.timeout(5), AsyncExitStack() as uses:
        for _ in range(pool.get_max_size()):
            await uses.enter_async_context(pool.acquire())


async def _cancel(lane: Lane, statement: str, database: Connection) -> None:
    """Cancel a use of a lane while the server sleeps in its statement."""

    async def use() -> None:
        async with lane.use() as connection:
            await connection.execute(statement)

    async def is_asleep() -> bool:
        return bool(await database.fetchval(_ASLEEP))

    using = asyncio.ensure_future(use())
    # Before the server has begun, it would ignore the cancellation.
    await eventually(is_asleep, what="a statement that sleeps")
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using


async def test_a_use_that_is_cancelled_leaves_the_lane_usable(
    pool: Pool, database: Connection
) -> None:
    lane = Lane(pool)
    await _cancel(lane, "SELECT pg_sleep(60)", database)

    async with asyncio.timeout(5):
        await _pid(lane)


@pytest.mark.parametrize("is_borrowed", [False, True])
async def test_a_cancelled_use_is_cancelled_though_the_server_goes_on(
    pool: Pool, database: Connection, *, is_borrowed: bool
) -> None:
    """The library waits for the server, and tells of its own time-out then."""
    lane = Lane(pool, timeout_s=0.3)
    async with AsyncExitStack() as uses:
        if is_borrowed:
            await uses.enter_async_context(lane.use())
        await _cancel(lane, _DEAF, database)

    async with asyncio.timeout(5):
        await _pid(lane)


async def test_a_pool_keeps_some_for_others(pool: Pool) -> None:
    first, second = Lane(pool), Lane(pool)
    await _pid(first)
    await _pid(second)

    assert (pool.get_size(), pool.get_idle_size()) == (2, 1)


async def test_a_pool_is_closed_without_waiting_for_its_lanes(database_url: str) -> None:
    pool = create_pool(database_url, name="test", size=NOT_KEPT + 2, statement_timeout_s=60)
    await pool
    idle, busy = Lane(pool), Lane(pool)
    await _pid(idle)
    async with asyncio.timeout(5):
        async with busy.use() as connection:
            closing = asyncio.ensure_future(pool.close())
            await asyncio.sleep(0)
            assert await connection.fetchval(_PID)
        await closing

    with pytest.raises(asyncpg.InterfaceError):
        await _pid(idle)
