"""Readiness checks that every process shares."""

from collections.abc import Callable

from runtime.database import Pool
from runtime.queries import load_queries
from runtime.status import Check, DependencyState


def check_database(pool: Pool) -> Check:
    """Return a check that asks PostgreSQL for its migrations."""
    sql = load_queries("runtime")

    async def check() -> DependencyState:
        is_migrated = await pool.fetchval(sql["has_schema_migrations"], timeout=1.0)
        return DependencyState.of(
            is_up=bool(is_migrated), trouble="not migrated; run: ackledger migrate"
        )

    return check


def check_broker(is_up: Callable[[], bool]) -> Check:
    """Return a check of our own connections."""

    async def check() -> DependencyState:
        return DependencyState.of(is_up=is_up(), trouble="not connected")

    return check
