"""What waits is counted every few seconds: a row costs a comparison and no look-up."""

import re

from reconciler.observation import observe_book
from runtime.postgres.pool import Connection
from tests.integration.reconciler.pending import record_pending

_WAITING = """
EXPLAIN (VERBOSE)
SELECT FROM transactions AS t WHERE pending_since(t.id, t.created_at, t.has_terms) IS NOT NULL
"""
_HELD = "EXPLAIN (VERBOSE) SELECT held_now(id, held) FROM wallets"


async def _progress_scans(database: Connection) -> int:
    """Return how often the one row of `sweep_progress` has been read by this session."""
    await database.execute("SELECT pg_stat_force_next_flush()")
    scans: int = await database.fetchval(
        "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'sweep_progress'"
    )
    return scans


async def test_since_when_a_plain_move_waits_is_asked_within_the_statement(
    database: Connection,
) -> None:
    plan = "\n".join(row[0] for row in await database.fetch(_WAITING))

    assert "terms_pending_since(t.id" in plan
    assert not re.search(r"\bpending_since\(", plan)


async def test_what_a_wallet_without_holds_has_held_is_asked_within_the_statement(
    database: Connection,
) -> None:
    plan = "\n".join(row[0] for row in await database.fetch(_HELD))

    assert "held_by_open_holds(id" in plan
    assert not re.search(r"\bheld_now\(", plan)


async def test_how_far_was_swept_is_read_once_however_many_wait(database: Connection) -> None:
    await record_pending(database, 300)
    before = await _progress_scans(database)
    book = await observe_book(database)

    assert book["pending"] == 300
    assert await _progress_scans(database) - before <= 2
