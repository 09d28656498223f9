"""What happens inside a PostgreSQL that runs: no connection left, locks, a full disk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import asyncpg

from runtime.postgres.pool import UNREACHABLE
from runtime.postgres.queries import load_queries
from tools.chaos import volume
from tools.chaos.faults.fault import POSTGRES_BACK_S, SceneFault
from tools.chaos.faults.messages import await_row
from tools.chaos.scene import LOCK_TIMEOUT_S, NotStruckError, Scene, in_thread
from tools.stack import StackError

_OCCUPIED_MAX: Final = 1_000
"""More than any max_connections that a private server is given."""
_ROUNDS: Final = 3
"""While sessions are ended and their places taken, processes take some back."""
_HOT_WALLETS: Final = 8
_WALLETS_LEAST: Final = 50_000
"""Deadlocks that never showed with some hundred wallets came with so many."""
_FAILED_WRITE: Final[tuple[type[BaseException], ...]] = (asyncpg.PostgresError, *UNREACHABLE)
_HELD_S: Final = 1.5 * LOCK_TIMEOUT_S
_GAP_S: Final = 0.1


@asynccontextmanager
async def _exhausted(scene: Scene) -> AsyncIterator[None]:
    sql = load_queries("tools.chaos.faults")
    async with AsyncExitStack() as occupied:
        for _ in range(_ROUNDS):
            await _occupy(scene, occupied, sql["end_sessions_of_processes"])
        yield


async def _occupy(scene: Scene, occupied: AsyncExitStack, end_others: str) -> None:
    """Take every connection that is left, then end those of our processes."""
    newest = None
    for _ in range(_OCCUPIED_MAX):
        try:
            newest = await occupied.enter_async_context(scene.books())
        except asyncpg.TooManyConnectionsError:
            break
    else:
        raise NotStruckError(f"PostgreSQL takes over {_OCCUPIED_MAX} connections")
    if newest is not None:
        await newest.execute(end_others)


@asynccontextmanager
async def _hot_wallets_locked(scene: Scene) -> AsyncIterator[None]:
    sql = load_queries("tools.chaos.faults")
    async with scene.books() as connection:
        await connection.execute(sql["fill_wallets"], _WALLETS_LEAST)
    storm = asyncio.create_task(_storm(scene))
    try:
        await await_row(scene, "is_anybody_blocked", what="a batch runs into the locks")
        yield
        if storm.done():
            storm.result()
    finally:
        storm.cancel()
        await asyncio.gather(storm, return_exceptions=True)


async def _storm(scene: Scene) -> None:
    """Hold the busiest wallets longer than anybody waits for them, again and again."""
    sql = load_queries("tools.chaos.faults")
    async with scene.books() as connection:
        wallets = await connection.fetchval(sql["read_hot_wallets"], _HOT_WALLETS)
        while True:
            async with connection.transaction():
                await connection.execute(sql["lock_wallets"], wallets)
                await asyncio.sleep(_HELD_S)
            await asyncio.sleep(_GAP_S)


@asynccontextmanager
async def _sessions_ended(scene: Scene) -> AsyncIterator[None]:
    sql = load_queries("tools.chaos.faults")
    async with scene.books() as connection:
        await connection.execute(sql["end_sessions_of_processes"])
    yield


@asynccontextmanager
async def _disk_full(scene: Scene) -> AsyncIterator[None]:
    place = volume.place_of(scene.stack.directory)
    if not volume.is_mounted(place):
        raise NotStruckError("the scene was set without a volume of PostgreSQL's own")
    await in_thread(volume.fill, place)
    try:
        await _see_it_full(scene)
        yield
    finally:
        await in_thread(volume.free, place)
        await _serve_again(scene)


async def _see_it_full(scene: Scene) -> None:
    """Write what needs room: it fails as everybody's writes do from now on."""
    try:
        async with scene.books() as connection:
            await connection.execute(load_queries("tools.chaos.faults")["take_room"])
    except _FAILED_WRITE:
        return
    raise NotStruckError("there is still room on PostgreSQL's disk")


async def _serve_again(scene: Scene) -> None:
    """Start PostgreSQL if a full disk ended it: an operator would, once there is room."""
    try:
        await in_thread(scene.stack.postgres.start)
    except StackError as error:
        raise NotStruckError(f"PostgreSQL does not come back: {error}") from error


FAULTS: Final = (
    SceneFault(
        name="connections-exhausted",
        claim="503 for some, retries for others; all goes on when there is a connection",
        strike=_exhausted,
        lasting_s=3.0,
        recovery_bound_s=2 * POSTGRES_BACK_S,
    ),
    SceneFault(
        name="database-sessions-ended",
        claim="what was under way is undone and done again",
        strike=_sessions_ended,
        recovery_bound_s=POSTGRES_BACK_S,
    ),
    SceneFault(
        name="hot-wallets-locked",
        claim="batches that run into the lock timeout are posted when the locks are gone",
        strike=_hot_wallets_locked,
        striking_s=3.0,
        lasting_s=6.0,
        recovery_bound_s=2 * POSTGRES_BACK_S,
    ),
    SceneFault(
        name="disk-full",
        claim="nothing is acked that is not committed; work goes on when there is room",
        strike=_disk_full,
        lasting_s=3.0,
        recovery_bound_s=2 * POSTGRES_BACK_S,
        missing=volume.missing,
    ),
)
