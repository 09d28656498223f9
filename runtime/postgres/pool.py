"""PostgreSQL: pools with pinned session settings, and what counts as 'cannot be reached'."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg

from runtime.postgres.queries import load_queries
from runtime.service.measures import watch_pool

if TYPE_CHECKING:
    _AnyPool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    _Acquired: TypeAlias = asyncpg.pool.PoolAcquireContext[asyncpg.Record]
    _Pooled: TypeAlias = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    # Only their stubs are generic.
    _AnyPool = asyncpg.Pool

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)

CONNECT_TIMEOUT_S: Final = 5.0
ACQUIRE_TIMEOUT_S: Final = 5.0
"""For a connection of a pool to be free, or made: by then a client is better told to come again."""
QUERIES_MAX: Final = 50_000
"""A connection is replaced after so many, as asyncpg does by default: servers keep some of each."""
INACTIVE_MAX_S: Final = 60.0
"""A connection that was idle for longer is replaced: what is between may have dropped it."""
NOT_KEPT: Final = 2
"""Connections of a pool that no lane keeps: for whatever else asks for one."""

UNREACHABLE: Final[tuple[type[BaseException], ...]] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # What asyncpg raises when a connection dies between two steps of its own protocol.
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
)
"""Errors that mean: PostgreSQL did not answer now, and may later."""

_PINNED: Final = {
    # With it off, 58 of 300 acknowledged commits were lost at a crash.
    "synchronous_commit": "on",
    "timezone": "UTC",
    "jit": "off",
}

KEYED_SESSION: Final = {
    # Early custom plans scanned 50,000 rows, and a plan made while a table was empty scans it for
    # as long as it is cached. Every statement of these sessions finds its rows by a key.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""Session settings of the processes: index lookups, whatever the statistics say."""
_PLACE: Final = "exported snapshot"
"""What stands in the statement for the snapshot's name: it takes no parameter."""


def create_pool(
    url: str,
    *,
    name: str,
    size: int,
    statement_timeout_s: float,
    session: dict[str, str] | None = None,
) -> Pool:
    """Return a pool that connects when it is first used, so a process starts without its database.

    `name` shows in pg_stat_activity; `session` sets more PostgreSQL settings for each connection.
    Every use of it waits ACQUIRE_TIMEOUT_S at most for a connection, then raises TimeoutError.
    """
    pool = _BoundedPool(
        url,
        min_size=0,
        max_size=size,
        max_queries=QUERIES_MAX,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        loop=None,
        timeout=CONNECT_TIMEOUT_S,
        # The server ends the statement first; this bound is for a server that answers nothing.
        command_timeout=statement_timeout_s + 1,
        max_inactive_connection_lifetime=INACTIVE_MAX_S,
        reset=_leave,
        server_settings=_server_settings(name, statement_timeout_s, session),
    )
    watch_pool(name, opened=pool.get_size, idle=pool.get_idle_size, most=size)
    return pool


class _BoundedPool(_AnyPool):
    """A pool whose `fetch`, `execute` and `acquire` never wait without an end for a connection.

    asyncpg's own time-outs begin when there is one: behind a few statements that wait for a lock,
    everybody else would wait for as long as those do.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lanes: list[Lane] = []

    def acquire(self, *, timeout: float | None = ACQUIRE_TIMEOUT_S) -> "_Acquired":
        """Return what acquires a connection within `timeout` seconds; `fetch` and all go here."""
        return super().acquire(timeout=ACQUIRE_TIMEOUT_S if timeout is None else timeout)

    async def release(self, connection: "_Pooled", **options: Any) -> None:
        """Take a connection back; the library terminates one that it cannot.

        Whoever used it is not told of that: it would hide what went wrong in the use itself, as
        that it was cancelled.
        """
        with suppress(*UNREACHABLE):
            await super().release(connection, **options)

    def keep(self, lane: "Lane") -> bool:
        """Whether a lane may keep a connection; if so, it gives it back when the pool is closed."""
        is_room = len(self._lanes) < self.get_max_size() - NOT_KEPT
        if is_room:
            self._lanes.append(lane)
        return is_room

    async def close(self) -> None:
        """Close all connections, once those in use are given back."""
        for lane in self._lanes:
            await lane.close()
        await super().close()


class Lane:
    """A connection of a pool that somebody who uses one again and again keeps between the uses.

    To borrow one each time costs 60 µs, most of it for a task that gives it back: at low rates more
    than the statement. Where a second use begins before the first has ended, or the pool is too
    small to spare one, it is borrowed all the same.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        timeout_s: float = ACQUIRE_TIMEOUT_S,
        inactive_max_s: float = INACTIVE_MAX_S,
    ) -> None:
        """`timeout_s`: for a connection of the pool, and to give it back.

        One that nobody used for `inactive_max_s` is replaced.
        """
        self._pool = pool
        self._timeout_s = timeout_s
        self._inactive_max_s = inactive_max_s
        self._is_kept = isinstance(pool, _BoundedPool) and pool.keep(self)
        self._kept: _Pooled | None = None
        self._is_busy = False
        self._uses = 0
        self._used_at = 0.0

    def borrow(self) -> "_Acquired":
        """Return what borrows another connection of the pool."""
        return self._pool.acquire(timeout=self._timeout_s)

    def use(self) -> "_Use":
        """Return what gives the connection for the length of a block.

        After an error in the block the connection is given back, and the next use has another one;
        after a TimeoutError it is terminated: undoing the work politely would wait for a silent
        server a second time.
        """
        return _Use(self)

    async def take(self) -> "_Pooled | None":
        """Return the connection that is kept, to be used by one alone; None where one is borrowed.

        Raises what acquiring raises.
        """
        if self._is_busy or not self._is_kept:
            return None
        self._is_busy = True
        try:
            if self._kept is not None and (self._is_inactive or _is_gone(self._kept)):
                _terminate(self._kept)
                self._kept = None
            if self._kept is None:
                self._kept = await self.borrow()
                self._uses = 0
        except BaseException:
            self._is_busy = False
            raise
        self._uses += 1
        return self._kept

    async def give_back(self, error: BaseException | None) -> None:
        """End a use; what failed, or is worn out, goes back to the pool."""
        self._is_busy = False
        self._used_at = time.monotonic()
        if error is not None or not self._is_kept or self._uses >= QUERIES_MAX:
            await self._release()

    async def close(self) -> None:
        """Keep no connection any more; one in use is given back after that."""
        self._is_kept = False
        if not self._is_busy:
            await self._release()

    @property
    def _is_inactive(self) -> bool:
        return time.monotonic() - self._used_at > self._inactive_max_s

    async def _release(self) -> None:
        kept, self._kept = self._kept, None
        if kept is None:
            return
        if _is_gone(kept):
            _terminate(kept)
        else:
            await self._pool.release(kept)


class _Use:
    """One use of a lane; a generator's context costs twice as much."""

    __slots__ = ("_borrowed", "_connection", "_lane")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._borrowed: _Acquired | None = None
        self._connection: _Pooled | None = None

    async def __aenter__(self) -> "Connection":
        self._connection = await self._lane.take()
        if self._connection is None:
            self._borrowed = self._lane.borrow()
            self._connection = await self._borrowed.__aenter__()
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, TimeoutError) and self._connection is not None:
            _terminate(self._connection)
        if self._borrowed is None:
            await self._lane.give_back(error)
        else:
            await self._borrowed.__aexit__(kind, error, traceback)


def _is_gone(connection: "Connection") -> bool:
    """Whether it is closed, or the pool has taken it back by itself."""
    with suppress(asyncpg.InterfaceError):
        return connection.is_closed()
    return True


def _terminate(connection: "Connection") -> None:
    """Close it without a word, and give its place back to the pool.

    The library gives back the place of one that the server closed, not of one that it aborted
    itself (`InternalClientError`): a session that ends just as a statement is sent to it.
    """
    with suppress(asyncpg.InterfaceError):  # the pool has taken it back already
        connection.terminate()


async def _leave(_: object) -> None:
    """Take a connection back as it is.

    The library's own statement takes back locks, cursors and settings of the session: a round trip
    after every use. Ours are all `LOCAL`, and an open transaction is rolled back before this.
    """


async def connect(
    url: str, *, name: str, statement_timeout_s: float = 0, session: dict[str, str] | None = None
) -> "asyncpg.Connection[asyncpg.Record]":
    """Return one connection outside any pool; a timeout of 0 means none."""
    return await asyncpg.connect(
        url,
        timeout=CONNECT_TIMEOUT_S,
        server_settings=_server_settings(name, statement_timeout_s, session),
    )


def _server_settings(
    name: str, statement_timeout_s: float, session: dict[str, str] | None
) -> dict[str, str]:
    return {
        **_PINNED,
        "application_name": f"ackledger-{name}",
        "statement_timeout": str(int(statement_timeout_s * 1000)),
        # A process that stops in the middle must not keep its locks for ever.
        "idle_in_transaction_session_timeout": "30000",
        **(session or {}),
    }


def rows_changed(status: str) -> int:
    """Return the count in a command status such as 'UPDATE 3'."""
    return int(status.rsplit(" ", 1)[-1])


@asynccontextmanager
async def one_snapshot(
    connection: "asyncpg.Connection[asyncpg.Record]",
    beside: "asyncpg.Connection[asyncpg.Record] | None" = None,
) -> AsyncIterator[None]:
    """Begin a read-only database transaction on each connection; both see the same moment.

    Raises what the database raises, and asyncpg.InterfaceError where one is in a transaction.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        if beside is None:
            yield
            return
        sql = load_queries("runtime.postgres")
        name: str = await connection.fetchval(sql["export_snapshot"])
        async with beside.transaction(isolation="repeatable_read", readonly=True):
            await beside.execute(sql["import_snapshot"].replace(_PLACE, name))
            yield
