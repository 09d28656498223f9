"""The integrity check: what is wrong is told once, within a step; what is right, never."""

import asyncio
from collections.abc import Sequence
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest
import structlog
from prometheus_client import REGISTRY

from processor.poster import Poster
from reconciler.integrity import (
    TRANSACTIONS_PER_STEP_MIN,
    IntegrityCheck,
    IntegrityCounts,
)
from reconciler.retry_queue import REWIND, RetryQueue, Sweep
from reconciler.schedule import LOOKUP_SESSION, reconciler_leadership
from runtime.postgres.pool import Pool, connect, create_pool
from tests.integration.processor.books import add_wallets, open_pool, random_transfers, record
from tests.integration.reconciler.parts import make_reconciler
from tests.integration.reconciler.serving import running
from tests.integration.verification.books import corrupt, write_books
from tests.integration.verification.corruptions import WALLET
from tests.support import eventually
from verification.verify import verify

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_BALANCE_OFF = f"UPDATE wallets SET balance = balance + 1 WHERE id = {WALLET}"


@pytest.fixture
async def books(database: Connection, pool: Pool) -> Connection:
    """Correct books that the sweep has walked over: 300 transfers between 10 wallets."""
    await write_books(database, transactions=300, wallets=10)
    await Sweep(pool).run_once(older_than_s=0)
    return database


def _check(pool: Pool, *, step_max: int = 1000) -> IntegrityCheck:
    return IntegrityCheck(pool, interval_s=60, step_max=step_max)


def _counted(check: str) -> float:
    return REGISTRY.get_sample_value("ackledger_integrity_findings_total", {"check": check}) or 0.0


async def _until_caught_up(check: IntegrityCheck) -> IntegrityCounts:
    counts = await check.run_once()
    for _ in range(1000):
        if counts.is_caught_up:
            return counts
        counts = await check.run_once()
    raise AssertionError("it never catches up")


async def _late_transfers(database: Connection, pool: Pool) -> list[UUID]:
    """Record three transfers that are still PENDING when the sweep passes them."""
    wallets = await add_wallets(database, 2)
    await database.execute("UPDATE wallets SET overdraft_limit = 1000")
    ids = await record(database, random_transfers(wallets, 3, seed=1, prefix="late"))
    await Sweep(pool).run_once(older_than_s=0)
    return ids


async def _post(database_url: str, ids: Sequence[UUID]) -> None:
    async with open_pool(database_url) as posting_pool:
        await Poster(posting_pool).post(ids)


async def test_correct_books_are_checked_once_and_yield_nothing(
    books: Connection, pool: Pool
) -> None:
    first = await _check(pool).run_once()
    second = await _check(pool).run_once()

    assert first == IntegrityCounts(checked=304, findings=0, is_caught_up=True, lag_s=0.0)
    assert second == IntegrityCounts(checked=0, findings=0, is_caught_up=True, lag_s=0.0)
    assert await books.fetchval("SELECT count(*) FROM integrity_findings") == 0


async def test_a_finding_is_told_in_log_and_metric_within_a_step_and_only_once(
    books: Connection, pool: Pool
) -> None:
    wallet_id = await books.fetchval(f"SELECT {WALLET}")
    balance = await books.fetchval("SELECT balance FROM wallets WHERE id = $1", wallet_id)
    await corrupt(books, _BALANCE_OFF)
    before = _counted("wallet_balance")

    with structlog.testing.capture_logs() as events:
        first = await _check(pool).run_once()
        await books.execute("UPDATE sweep_progress SET checked_until = gen_random_uuid()")
        await books.execute("UPDATE sweep_progress SET checked_until = uuid_v7(0)")
        again = await _check(pool).run_once()

    assert (first.findings, again.findings) == (1, 0)
    assert again.checked == 304
    assert _counted("wallet_balance") == before + 1
    assert REGISTRY.get_sample_value("ackledger_integrity_kept_findings") == 1.0
    told = [event for event in events if event["log_level"] == "error"]
    assert told == [
        {
            "event": "integrity_finding",
            "log_level": "error",
            "check": "wallet_balance",
            "subject": f"wallet {wallet_id}",
            "detail": f"the balance is {balance + 1}, the entries sum to {balance}",
        }
    ]


@pytest.mark.usefixtures("books")
async def test_a_long_history_is_checked_in_bounded_steps_that_tell_their_lag(pool: Pool) -> None:
    check = _check(pool, step_max=50)

    steps = [await check.run_once() for _ in range(7)]

    assert [step.checked for step in steps] == [50, 50, 50, 50, 50, 50, 4]
    assert [step.is_caught_up for step in steps] == [False] * 6 + [True]
    # The transfers bear ids of years ago.
    assert steps[0].lag_s > 3600
    assert steps[-1].lag_s == 0.0


async def test_a_step_that_fails_is_made_smaller_until_it_succeeds(
    books: Connection, database_url: str
) -> None:
    # What takes longer than a statement may: the walk cannot be read while somebody locks it.
    impatient = create_pool(
        database_url, name="test", size=1, statement_timeout_s=0.1, session=LOOKUP_SESSION
    )
    check = IntegrityCheck(impatient, interval_s=60, step_max=200)
    async with impatient:
        async with books.transaction():
            await books.execute("LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE")
            for _ in range(5):
                with pytest.raises(asyncpg.QueryCanceledError):
                    await check.run_step()
        sizes = [(await check.run_once()).checked]
        await check.run_step()
        await books.execute("UPDATE sweep_progress SET checked_until = uuid_v7(0)")
        sizes.append((await check.run_once()).checked)

    assert sizes == [TRANSACTIONS_PER_STEP_MIN, 2 * TRANSACTIONS_PER_STEP_MIN]


@pytest.mark.usefixtures("books")
async def test_the_watermark_outlives_the_process_and_the_leader(pool: Pool) -> None:
    await _check(pool, step_max=100).run_once()

    successor = await _check(pool).run_once()

    assert successor.checked == 204


async def test_what_ends_after_the_sweep_has_passed_it_is_checked_when_it_leaves_the_retry_queue(
    database: Connection, database_url: str, pool: Pool, retry_queue: RetryQueue
) -> None:
    ids = await _late_transfers(database, pool)
    passed = await _check(pool).run_once()
    await _post(database_url, ids)
    await corrupt(database, "UPDATE entries SET balance_after = 77 WHERE sequence = 2")
    # Published and due much later, as it is when a processor has just posted it.
    await database.execute("UPDATE stale_transactions SET next_attempt_at = now() + interval '1 h'")

    ended = (await retry_queue.run_once()).ended
    late = await _check(pool).run_once()

    assert passed == IntegrityCounts(checked=3, findings=0, is_caught_up=True, lag_s=0.0)
    assert ended == 3
    assert late.checked == 3
    checks = await database.fetch("SELECT DISTINCT check_name FROM integrity_findings")
    assert [row["check_name"] for row in checks] == ["entry_chain"]
    assert await database.fetchval("SELECT count(*) FROM late_endings") == 0


async def test_what_leaves_the_retry_queue_when_it_is_due_is_checked_too(
    database: Connection, database_url: str, pool: Pool, retry_queue: RetryQueue
) -> None:
    ids = await _late_transfers(database, pool)
    await _check(pool).run_once()
    await _post(database_url, ids)

    ended = (await retry_queue.run_once()).ended
    late = await _check(pool).run_once()

    assert (ended, late.checked, late.findings) == (3, 3, 0)


async def test_two_checks_at_once_tell_each_finding_once(books: Connection, pool: Pool) -> None:
    await corrupt(
        books, "UPDATE entries SET balance_after = balance_after + 1 WHERE sequence % 10 = 5"
    )

    counts = await asyncio.gather(*(_check(pool).run_once() for _ in range(3)))

    assert sum(one.findings for one in counts) == await books.fetchval(
        "SELECT count(*) FROM integrity_findings"
    )
    assert sum(one.findings for one in counts) > 10


async def test_a_database_clock_that_was_set_back_sets_the_check_back_with_the_sweep(
    books: Connection, pool: Pool
) -> None:
    await _check(pool).run_once()
    future = "uuid_v7(clock_us() + 3600 * 1000000::bigint)"
    await books.execute(
        f"UPDATE sweep_progress SET swept_until = {future}, checked_until = {future}"
    )
    wallet_ids = [row["id"] for row in await books.fetch("SELECT id FROM wallets LIMIT 2")]
    await record(books, random_transfers(wallet_ids, 4, seed=2, prefix="after"))

    await Sweep(pool).run_once(older_than_s=0)
    counts = await _check(pool).run_once()

    # With the four of the fixture, which are younger than what it goes back.
    assert REWIND.total_seconds() > 60
    assert counts.checked == 4 + 4


async def test_a_busy_ledger_yields_no_false_alarm(
    database: Connection, database_url: str, pool: Pool, retry_queue: RetryQueue
) -> None:
    wallets = await add_wallets(database, 12)
    # Few wallets and a low limit: hot rows, and refusals among them.
    await database.execute("UPDATE wallets SET overdraft_limit = 500")
    is_over = asyncio.Event()
    check = _check(pool, step_max=40)

    async def post(name: str, posting_pool: Pool) -> int:
        recording = await connect(database_url, name="test")
        posted = 0
        for number in range(40):
            commands = random_transfers(wallets, 25, seed=number, prefix=f"{name}-{number}")
            ids = await record(recording, commands)
            posted += len((await Poster(posting_pool).post(ids)).posting.posted)
        await recording.close()
        return posted

    async def look() -> int:
        steps = 0
        while not is_over.is_set():
            await Sweep(pool).run_once(older_than_s=0)
            await database.execute("UPDATE stale_transactions SET next_attempt_at = now()")
            await retry_queue.run_once()
            await check.run_once()
            steps += 1
        return steps

    async with open_pool(database_url) as posting_pool:
        looking = asyncio.ensure_future(look())
        posted = sum(await asyncio.gather(*(post(name, posting_pool) for name in "abc")))
        is_over.set()
        steps = await looking
    await Sweep(pool).run_once(older_than_s=0)
    await retry_queue.run_once()
    last = await _until_caught_up(check)

    found = await database.fetch("SELECT check_name, subject, detail FROM integrity_findings")
    assert [tuple(row) for row in found] == []
    assert steps > 4
    assert posted > 500
    assert last.lag_s == 0.0
    assert (await verify(database, pending_max_s=300)).clean


async def test_the_leader_checks_on_and_on(
    books: Connection, database_url: str, pool: Pool, retry_queue: RetryQueue
) -> None:
    reconciler = make_reconciler(
        pool, retry_queue, reconciler_leadership(database_url), stale_after_s=0.1
    )
    await corrupt(books, _BALANCE_OFF)

    async def subjects() -> list[str]:
        rows = await books.fetch("SELECT subject FROM integrity_findings")
        return [row["subject"] for row in rows]

    async with running(reconciler):
        first = await eventually(subjects, what="a finding about what is there")
        wallet_id: UUID = await books.fetchval("SELECT id FROM wallets ORDER BY version LIMIT 1")
        await books.execute("UPDATE wallets SET balance = balance - 1 WHERE id = $1", wallet_id)
        other: UUID = await books.fetchval("SELECT id FROM wallets ORDER BY version DESC LIMIT 1")
        ids = await record(books, random_transfers([wallet_id, other], 1, seed=1, prefix="new"))
        # EUR books, USD request: it is refused, and its wallets are not touched.
        await _post(database_url, ids)
        await books.execute("UPDATE transactions SET source_sequence = 1 WHERE id = $1", ids[0])

        async def both() -> list[str]:
            found = await subjects()
            return found if len(found) > len(first) else []

        found = await eventually(both, what="a finding about what came later")

    assert f"transaction {ids[0]}" in found
