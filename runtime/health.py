"""Readiness checks that every process shares."""

from collections.abc import Callable
from typing import Final

from runtime.database import Pool
from runtime.queries import load_queries
from runtime.status import Check, DependencyState

CHECK_S: Final = 1.0


def check_database(pool: Pool) -> Check:
    """Return a check that asks PostgreSQL for its migrations."""
    sql = load_queries("runtime")

    async def check() -> DependencyState:
        # Bounded at both ends: a connection that is never given back would be lost to the pool.
        async with pool.acquire(timeout=CHECK_S) as connection:
            is_migrated = await connection.fetchval(sql["has_schema_migrations"], timeout=CHECK_S)
        return DependencyState.of(
            is_up=bool(is_migrated), trouble="not migrated; run: ackledger migrate"
        )

    return check


def check_broker(is_up: Callable[[], bool]) -> Check:
    """Return a check of our own connections."""

    async def check() -> DependencyState:
        return DependencyState.of(is_up=is_up(), trouble="not connected")

    return check


def check_circuit(is_open: Callable[[], bool]) -> Check:
    """Return a check of a circuit: open means that no work is taken."""

    async def check() -> DependencyState:
        return DependencyState.of(is_up=not is_open(), trouble="circuit open")

    return check
