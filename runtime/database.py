"""PostgreSQL: pools with pinned session settings, and what counts as 'cannot be reached'."""

from typing import Any, Final, TypeAlias

import asyncpg

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)

CONNECT_TIMEOUT_S: Final = 5.0

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
    """
    return asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        # The server ends the statement first; this bound is for a server that answers nothing.
        command_timeout=statement_timeout_s + 1,
        max_inactive_connection_lifetime=60,
        reset=_leave,
        server_settings=_server_settings(name, statement_timeout_s, session),
    )


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


Parameters: TypeAlias = tuple[Any, ...]
