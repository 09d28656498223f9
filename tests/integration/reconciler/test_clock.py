"""What happens at its time: holds expire, scheduled transactions become PENDING."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from prometheus_client import REGISTRY

from contracts.topology import partition_queue
from processor.deciding import WalletCache
from processor.poster import Poster
from reconciler.clock import HOLDS_PER_STEP_MAX, Clock, ClockCounts
from reconciler.retry_queue import RetryQueue
from reconciler.schedule import Reconciler, reconciler_leadership
from runtime.amqp.connection import Channel
from runtime.postgres.leadership import Leadership
from runtime.postgres.pool import Connection, Pool, connect
from tests.integration.processor.books import add_wallets, open_pool
from tests.integration.reconciler.parts import PARTITIONS, make_reconciler
from tests.integration.reconciler.pending import taken_ids
from tests.integration.reconciler.serving import running
from tests.integration.reconciler.terms import at, open_holds, record_with_terms
from tests.support import eventually
from verification.checks import VerificationReport
from verification.verify import verify

WITHIN_S = 2.0
"""What the contract promises for a hold that has expired."""


@pytest.fixture
def clock(pool: Pool) -> Clock:
    return Clock(pool)


@pytest.fixture
async def wallet(database: Connection) -> UUID:
    """An empty wallet with an overdraft limit of 100.00."""
    [wallet_id] = await _add_wallets(database, 1)
    return wallet_id


async def _add_wallets(database: Connection, count: int) -> list[UUID]:
    wallets = await add_wallets(database, count)
    await database.execute("UPDATE wallets SET overdraft_limit = 10000 WHERE kind = 'customer'")
    return wallets


async def _verified(database: Connection) -> VerificationReport:
    assert isinstance(database, asyncpg.Connection)
    return await verify(database, pending_max_s=300)


async def _held(database: Connection, wallet_id: UUID) -> int:
    held: int = await database.fetchval("SELECT held FROM wallets WHERE id = $1", wallet_id)
    return held


async def _holds(database: Connection) -> list[tuple[str, int]]:
    rows = await database.fetch("SELECT status::text, remaining FROM holds ORDER BY transaction_id")
    return [(row["status"], row["remaining"]) for row in rows]


async def _now(database: Connection) -> datetime:
    now: datetime = await database.fetchval("SELECT clock_timestamp()")
    return now


async def _events(database: Connection) -> list[tuple[str, list[UUID], Any]]:
    rows = await database.fetch("SELECT event_type, transaction_ids, wallets FROM outbox")
    return [
        (row["event_type"], row["transaction_ids"], orjson.loads(row["wallets"] or "null"))
        for row in rows
    ]


async def test_expired_holds_are_freed_and_their_events_owed(
    database: Connection, clock: Clock, wallet: UUID
) -> None:
    [late] = await open_holds(database, wallet, amount=30, expires_in_s=-1)
    [later] = await open_holds(database, wallet, amount=500, expires_in_s=-0.5)
    await open_holds(database, wallet, amount=7, expires_in_s=60)
    before = REGISTRY.get_sample_value("ackledger_holds_expired_total") or 0.0

    counts = await clock.run_once()

    assert counts == ClockCounts(holds_expired=2, woken=0, is_done=True)
    assert await _holds(database) == [("EXPIRED", 0), ("EXPIRED", 0), ("OPEN", 7)]
    assert await _held(database, wallet) == 7
    assert await _events(database) == [
        (
            "hold_expired",
            [late, later],
            {
                str(late): [[str(wallet), 0, 0, 507, 9_493, "USD"]],
                str(later): [[str(wallet), 0, 0, 7, 9_993, "USD"]],
            },
        )
    ]
    assert REGISTRY.get_sample_value("ackledger_holds_expired_total") == before + 2
    assert (await clock.run_once()).holds_expired == 0


async def test_a_flood_of_holds_expires_in_bounded_commits(
    database: Connection, clock: Clock, wallet: UUID
) -> None:
    [other] = await _add_wallets(database, 1)
    count = HOLDS_PER_STEP_MAX * 2 + 1
    await open_holds(database, wallet, amount=1, expires_in_s=-1, count=count)
    await open_holds(database, other, amount=1, expires_in_s=-1, count=3)

    counts = await clock.run_once()

    assert counts.holds_expired == count + 3
    assert (await _held(database, wallet), await _held(database, other)) == (0, 0)
    sizes = [len(ids) for _, ids, _ in await _events(database)]
    assert sizes == [HOLDS_PER_STEP_MAX, HOLDS_PER_STEP_MAX, 4]
    assert (await _verified(database)).findings == ()


async def test_a_wallet_that_holds_too_little_keeps_no_other_waiting(
    database: Connection, clock: Clock, wallet: UUID
) -> None:
    [other] = await _add_wallets(database, 1)
    await open_holds(database, wallet, amount=30, expires_in_s=-1)
    await open_holds(database, other, amount=30, expires_in_s=-1)
    await database.execute("UPDATE wallets SET held = 29 WHERE id = $1", wallet)

    counts = await clock.run_once()

    assert counts.holds_expired == 1
    assert (await _held(database, wallet), await _held(database, other)) == (29, 0)
    assert await _holds(database) == [("OPEN", 30), ("EXPIRED", 0)]


async def test_what_is_open_and_has_not_expired_is_not_looked_at(
    database: Connection, pool: Pool, wallet: UUID
) -> None:
    """However many there are: the index of those that have expired is empty."""
    await open_holds(database, wallet, amount=1, expires_in_s=600, count=5_000)
    await database.execute("ANALYZE holds")

    async with pool.acquire() as connection:
        rows = await connection.fetch(
            """
            EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)
            SELECT o.transaction_id FROM holds AS o
            WHERE o.status = 'OPEN' AND o.expires_at <= statement_timestamp()
            ORDER BY o.expires_at, o.transaction_id
            LIMIT 500
            """
        )
    [plan] = orjson.loads(rows[0][0])
    blocks = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    assert blocks <= 5
    assert await Clock(pool).run_once() == ClockCounts(holds_expired=0, woken=0, is_done=True)


async def test_expiry_waits_for_whoever_has_the_wallet_and_sees_what_that_did(
    database: Connection, database_url: str, clock: Clock, wallet: UUID
) -> None:
    """A release that was decided before the hold expired is committed after it."""
    [hold] = await open_holds(database, wallet, amount=30, expires_in_s=-1)
    poster = await connect(database_url, name="test")

    async with poster.transaction():
        await poster.execute("SELECT FROM wallets WHERE id = $1 FOR NO KEY UPDATE", wallet)
        expiring = asyncio.ensure_future(clock.run_once())

        async def waits() -> bool:
            return bool(await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await eventually(waits, what="the expiry waits for the wallet")
        await poster.execute(
            "UPDATE holds SET status = 'RELEASED', remaining = 0 WHERE transaction_id = $1", hold
        )
        await poster.execute("UPDATE wallets SET held = 0 WHERE id = $1", wallet)
    await poster.close()

    assert (await expiring).holds_expired == 0
    assert await _holds(database) == [("RELEASED", 0)]
    assert await _events(database) == []


async def test_captures_and_expiry_at_once_end_each_hold_once(
    database: Connection, database_url: str, clock: Clock
) -> None:
    wallets = await _add_wallets(database, 8)
    holds = [
        (wallet_id, hold)
        for wallet_id in wallets
        for hold in await open_holds(database, wallet_id, amount=5, expires_in_s=0.2, count=40)
    ]
    captures = await record_with_terms(
        database,
        [{"hold_id": str(hold), "is_final": True} for _, hold in holds],
        kind="capture",
        wallets=[(wallet_id, wallets[0]) for wallet_id, _ in holds],
    )
    await database.execute("UPDATE transactions SET amount = NULL WHERE type = 'capture'")

    async def expire() -> int:
        expired = 0
        while await database.fetchval("SELECT count(*) FROM holds WHERE status = 'OPEN'"):
            expired += (await clock.run_once()).holds_expired
        return expired

    async with open_pool(database_url) as posting_pool:
        poster = Poster(posting_pool, wallet_cache=WalletCache())

        async def post() -> None:
            for start in range(0, len(captures), 16):
                await poster.post(captures[start : start + 16])

        await asyncio.gather(post(), expire())

    rows = await database.fetch("SELECT status::text, count(*) FROM holds GROUP BY 1")
    ends = {row["status"]: row["count"] for row in rows}
    told = [
        one for kind, ids, _ in await _events(database) if kind == "hold_expired" for one in ids
    ]
    report = await _verified(database)
    held = await database.fetchval("SELECT sum(held) FROM wallets")
    # Which of them, the machine decides.
    assert set(ends) <= {"CAPTURED", "EXPIRED"}
    assert len(told) == len(set(told)) == ends.get("EXPIRED", 0)
    assert held == 0
    assert report.findings == ()


async def test_what_is_due_becomes_pending_and_is_announced(
    database: Connection, clock: Clock, retry_queue: RetryQueue, channel: Channel
) -> None:
    now = await _now(database)
    ids = await record_with_terms(
        database, [at(now + timedelta(days=days)) for days in (3, 1, 2, 9)]
    )
    await _pass_days(database, 4)

    counts = await clock.run_once()
    published = await retry_queue.run_once()

    assert (counts.woken, published.republished) == (3, 3)
    assert await _statuses(database) == ["PENDING", "PENDING", "PENDING", "SCHEDULED"]
    groups = [g for n in range(PARTITIONS) for g in await taken_ids(channel, partition_queue(n))]
    assert sorted(one for group in groups for one in group) == ids[:3]
    left = await database.fetch("SELECT transaction_id FROM scheduled_transactions")
    assert [row["transaction_id"] for row in left] == ids[3:]


async def test_what_was_cancelled_meanwhile_stays_so(
    database: Connection, database_url: str, clock: Clock
) -> None:
    now = await _now(database)
    ids = await record_with_terms(database, [at(now + timedelta(days=1))] * 2)
    await _pass_days(database, 2)
    canceller = await connect(database_url, name="test")

    async with canceller.transaction():
        await canceller.execute("SELECT FROM transactions WHERE id = $1 FOR NO KEY UPDATE", ids[0])
        beside_it = await clock.run_once()
        await canceller.execute(
            """
            SELECT end_transactions(
                clock_timestamp(), ARRAY[$1::uuid], 'SCHEDULED', 'FAILED', ARRAY['cancelled'],
                ARRAY[NULL::text]
            )
            """,
            ids[0],
        )
        await canceller.execute(
            "DELETE FROM scheduled_transactions WHERE transaction_id = $1", ids[0]
        )
    await canceller.close()
    after_it = await clock.run_once()

    assert (beside_it.woken, after_it.woken) == (1, 0)
    assert await _statuses(database) == ["FAILED", "PENDING"]


@pytest.fixture
def leadership(database_url: str) -> Leadership:
    """Who leads."""
    return reconciler_leadership(database_url)


@pytest.fixture
def reconciler(pool: Pool, retry_queue: RetryQueue, leadership: Leadership) -> Reconciler:
    """A reconciler whose passes are an hour apart."""
    return make_reconciler(
        pool,
        retry_queue,
        leadership,
        stale_after_s=3600,
        interval_s=3600,
        integrity_interval_s=3600,
    )


async def test_a_leader_frees_and_announces_in_time(
    reconciler: Reconciler,
    leadership: Leadership,
    database: Connection,
    channel: Channel,
    wallet: UUID,
) -> None:
    async def leads() -> bool:
        return leadership.is_leader

    async def is_freed() -> bool:
        return await _held(database, wallet) == 0

    async def is_announced() -> bool:
        return bool(await database.fetchval("SELECT max(attempts) FROM stale_transactions"))

    async with running(reconciler):
        await eventually(leads, what="the lead")
        now = await _now(database)
        ids = await record_with_terms(database, [at(now + timedelta(seconds=0.3))])
        await open_holds(database, wallet, amount=5, expires_in_s=0.3)
        async with asyncio.timeout(0.3 + WITHIN_S):
            await eventually(is_freed, what="the hold is freed")
            await eventually(is_announced, what="the transaction is announced")
        await reconciler.drain()

    groups = [g for n in range(PARTITIONS) for g in await taken_ids(channel, partition_queue(n))]
    assert groups == [ids]


async def _statuses(database: Connection) -> list[str]:
    rows = await database.fetch("SELECT status::text FROM transactions ORDER BY id")
    return [row["status"] for row in rows]


async def _pass_days(database: Connection, days: int) -> None:
    """Move all that is scheduled and was recorded so many days into the past."""
    gone = timedelta(days=days)
    await database.execute(
        "UPDATE scheduled_transactions SET execute_at = execute_at - $1::interval", gone
    )
    await database.execute(
        "UPDATE transaction_terms SET execute_at = execute_at - $1::interval", gone
    )
    await database.execute("UPDATE transactions SET created_at = created_at - $1::interval", gone)
