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
        if is_migrated:
            return DependencyState(is_up=True)
        return DependencyState(is_up=False, detail="not migrated; run: ackledger migrate")

    return check


def check_broker(is_up: Callable[[], bool], *, is_needed: bool) -> Check:
    """Return a check of our own connections; `is_needed` tells whether we are of use without."""

    async def check() -> DependencyState:
        is_connected = is_up()
        return DependencyState(
            is_up=is_connected,
            detail=None if is_connected else "not connected",
            is_needed=is_needed,
        )

    return check
