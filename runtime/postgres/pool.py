"""PostgreSQL: pools with pinned session settings, and what counts as 'cannot be reached'."""

from typing import TYPE_CHECKING, Final, TypeAlias

import asyncpg

from runtime.service.measures import watch_pool

if TYPE_CHECKING:
    _AnyPool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    _Acquired: TypeAlias = asyncpg.pool.PoolAcquireContext[asyncpg.Record]
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
        max_inactive_connection_lifetime=60,
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

    def acquire(self, *, timeout: float | None = ACQUIRE_TIMEOUT_S) -> "_Acquired":
        """Return what acquires a connection within `timeout` seconds; `fetch` and all go here."""
        return super().acquire(timeout=ACQUIRE_TIMEOUT_S if timeout is None else timeout)


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
