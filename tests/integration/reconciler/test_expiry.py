"""What nobody posts expires: after its age and its last calls, and never while nobody could."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiormq.abc import DeliveredMessage

from processor.poster import Poster
from reconciler.retry_queue import (
    LAST_CALLS,
    Expiry,
    QueueDepth,
    RetryQueue,
    Sweep,
    last_call_pause_s,
)
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher, UnroutableError
from runtime.postgres.pool import Pool, connect
from tests.integration.processor.books import add_wallets, open_pool, random_transfers, record
from tests.integration.reconciler.parts import QUEUES, make_retry_queue
from tests.integration.reconciler.pending import record_pending
from tests.integration.reconciler.serving import running
from tests.integration.reconciler.terms import record_with_terms
from tests.support import eventually
from verification.verify import verify

AGE_S = 60.0

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
def expiring(pool: Pool, publisher: Publisher, depth: QueueDepth) -> RetryQueue:
    """The retry queue whose transactions expire after an age."""
    return make_retry_queue(pool, publisher, depth, expire_after_s=AGE_S)


@asynccontextmanager
async def _consumed(channel: Channel, *, is_stuck: bool = False) -> AsyncIterator[None]:
    """Take every message and post none; one that is stuck takes a single one and keeps it."""

    async def take(message: DeliveredMessage) -> None:
        assert message.body

    if is_stuck:
        await channel.basic_qos(prefetch_count=1)
    tags = []
    for queue in QUEUES:
        consuming = await channel.basic_consume(queue, take, no_ack=not is_stuck)
        tags.append(str(consuming.consumer_tag))
    yield
    for tag in tags:
        await channel.basic_cancel(tag)


async def _record_old(database: Connection, pool: Pool, count: int = 1) -> list[UUID]:
    """Record transactions that are past the age, and put them on the retry queue."""
    ids = await record_pending(database, count)
    await Sweep(pool).run_once(older_than_s=0)
    await database.execute("UPDATE transactions SET created_at = created_at - interval '2 min'")
    return ids


async def _pass(database: Connection, retry_queue: RetryQueue, depth: QueueDepth) -> int:
    """Make all due, and a pass once consumers have emptied the queues; return what expired."""

    async def are_served() -> bool:
        return (await depth.look()).are_served

    await eventually(are_served, what="consumers have emptied the queues")
    return await _pass_at_once(database, retry_queue)


async def _pass_at_once(database: Connection, retry_queue: RetryQueue) -> int:
    await database.execute("UPDATE stale_transactions SET next_attempt_at = now()")
    return (await retry_queue.run_once()).expired


async def _statuses(database: Connection) -> list[str]:
    rows = await database.fetch("SELECT status::text FROM transactions ORDER BY id")
    return [row["status"] for row in rows]


async def test_what_is_taken_in_vain_expires_after_its_last_calls(
    pool: Pool, database: Connection, depth: QueueDepth, channel: Channel, expiring: RetryQueue
) -> None:
    ids = await _record_old(database, pool, 3)
    nudged = asyncio.Event()
    await database.add_listener("ackledger_posted", lambda *_: nudged.set())

    async with _consumed(channel):
        expired = [await _pass(database, expiring, depth) for _ in range(LAST_CALLS + 1)]
        after = await expiring.run_once()

    rows = await database.fetch(
        "SELECT status::text, failure_code::text, failure_detail, completed_at > created_at"
        " FROM transactions ORDER BY id"
    )
    assert expired == [0, 0, 0, 3]
    detail = "not posted within 60 s, nor after 3 last calls"
    assert [tuple(row) for row in rows] == [("FAILED", "expired", detail, True)] * 3
    listed = await database.fetch(
        "SELECT transaction_id FROM exceptional_transactions WHERE status = 'FAILED' ORDER BY 1"
    )
    assert [row["transaction_id"] for row in listed] == ids
    owed = await database.fetch("SELECT event_type, transaction_ids FROM outbox")
    assert [(row["event_type"], row["transaction_ids"]) for row in owed] == [("failed", ids)]
    assert (after.ended, after.expired, after.waiting) == (3, 0, 0)
    async with asyncio.timeout(5):
        await nudged.wait()


async def test_nothing_expires_while_nobody_takes_the_messages(
    pool: Pool, database: Connection, expiring: RetryQueue
) -> None:
    await _record_old(database, pool)

    expired = [await _pass_at_once(database, expiring) for _ in range(3 * LAST_CALLS)]

    assert set(expired) == {0}
    assert await _statuses(database) == ["PENDING"]


async def test_nothing_expires_while_messages_wait_behind_a_stuck_consumer(
    pool: Pool, database: Connection, channel: Channel, expiring: RetryQueue
) -> None:
    await _record_old(database, pool, 4)
    # Two announcements before: the consumer keeps one of each queue, the others wait.
    for _ in range(2):
        await _pass_at_once(database, expiring)

    async with _consumed(channel, is_stuck=True):
        expired = [await _pass_at_once(database, expiring) for _ in range(3 * LAST_CALLS)]

    assert set(expired) == {0}
    assert set(await _statuses(database)) == {"PENDING"}


async def test_after_an_outage_of_the_processors_everything_has_its_last_calls_anew(
    pool: Pool, database: Connection, depth: QueueDepth, channel: Channel, expiring: RetryQueue
) -> None:
    await _record_old(database, pool)
    for _ in range(2 * LAST_CALLS):
        await _pass_at_once(database, expiring)

    async with _consumed(channel):
        expired = [await _pass(database, expiring, depth) for _ in range(LAST_CALLS)]

    assert expired == [0, 0, 1]


async def test_an_announcement_before_the_age_is_no_last_call(
    pool: Pool, database: Connection, depth: QueueDepth, channel: Channel, expiring: RetryQueue
) -> None:
    await record_pending(database)
    await Sweep(pool).run_once(older_than_s=0)

    async with _consumed(channel):
        young = [await _pass(database, expiring, depth) for _ in range(2 * LAST_CALLS)]
        await database.execute("UPDATE transactions SET created_at = created_at - interval '2 min'")
        old = [await _pass(database, expiring, depth) for _ in range(LAST_CALLS + 1)]

    assert set(young) == {0}
    assert old == [0, 0, 0, 1]


async def test_an_age_of_zero_is_never(
    pool: Pool, database: Connection, depth: QueueDepth, channel: Channel, retry_queue: RetryQueue
) -> None:
    await _record_old(database, pool)

    async with _consumed(channel):
        expired = [await _pass(database, retry_queue, depth) for _ in range(2 * LAST_CALLS)]

    assert set(expired) == {0}


async def test_what_the_broker_did_not_confirm_is_no_last_call(
    pool: Pool, database: Connection, publisher: Publisher, broker_url: str, channel: Channel
) -> None:
    await _record_old(database, pool, 20)
    await channel.queue_delete(QUEUES[1])
    only_first = QueueDepth(broker_url, partitions=1)
    retry_queue = make_retry_queue(pool, publisher, only_first, expire_after_s=AGE_S)

    async with running(only_first):
        await only_first.wait_until_up()
        for _ in range(2 * LAST_CALLS):
            with pytest.raises(UnroutableError):
                await _pass_at_once(database, retry_queue)

    assert await database.fetchval("SELECT max(last_calls) FROM stale_transactions") == 0
    assert await database.fetchval("SELECT bool_or(is_last_call) FROM stale_transactions") is False


async def test_what_a_batch_has_locked_is_left_to_it(
    pool: Pool, database: Connection, database_url: str
) -> None:
    ids = await _record_old(database, pool, 2)
    expiry = Expiry(pool, after_s=AGE_S)
    poster = await connect(database_url, name="test")

    async with poster.transaction():
        await poster.execute("SELECT 1 FROM transactions WHERE id = $1 FOR NO KEY UPDATE", ids[0])
        beside_the_batch = await expiry.expire(ids)
        statuses = await _statuses(database)
    after_it = await expiry.expire(ids)
    await poster.close()

    assert (beside_the_batch, statuses) == (1, ["PENDING", "FAILED"])
    assert after_it == 1


async def test_an_atomic_batch_expires_as_a_whole_or_not_at_all(
    pool: Pool, database: Connection, database_url: str
) -> None:
    one, other = str(uuid4()), str(uuid4())
    ids = await record_with_terms(
        database, [{"batch_id": batch_id} for batch_id in (one, one, one, other, other)]
    )
    await database.execute("UPDATE transactions SET created_at = created_at - interval '2 min'")
    expiry = Expiry(pool, after_s=AGE_S)
    poster = await connect(database_url, name="test")

    async with poster.transaction():
        await poster.execute("SELECT 1 FROM transactions WHERE id = $1 FOR NO KEY UPDATE", ids[1])
        beside_the_batch = await expiry.expire([ids[0], ids[3]])
        statuses = await _statuses(database)
    after_it = await expiry.expire([ids[0]])
    await poster.close()

    assert (beside_the_batch, after_it) == (2, 3)
    assert statuses == ["PENDING"] * 3 + ["FAILED"] * 2
    assert await _statuses(database) == ["FAILED"] * 5


async def test_what_was_scheduled_ages_from_its_time_on(
    pool: Pool,
    database: Connection,
    publisher: Publisher,
    depth: QueueDepth,
    channel: Channel,
) -> None:
    [scheduled] = await record_with_terms(database, [{"execute_at": "2020-01-01T00:00:00Z"}])
    await _record_old(database, pool)
    await database.execute("UPDATE transaction_terms SET execute_at = now()")
    retry_queue = make_retry_queue(pool, publisher, depth, expire_after_s=AGE_S)

    async with _consumed(channel):
        expired = [await _pass(database, retry_queue, depth) for _ in range(LAST_CALLS + 1)]
    by_id = await Expiry(pool, after_s=AGE_S).expire([scheduled])

    assert (expired, by_id) == ([0, 0, 0, 1], 0)
    assert await _statuses(database) == ["PENDING", "FAILED"]


async def test_posting_and_expiring_at_once_end_each_transaction_once(
    pool: Pool, database: Connection, database_url: str
) -> None:
    wallets = await add_wallets(database, 20)
    await database.execute("UPDATE wallets SET overdraft_limit = 1000000")
    ids = await record(database, random_transfers(wallets, 600, seed=5, prefix="race"))
    await database.execute("UPDATE transactions SET created_at = created_at - interval '2 min'")
    expiry = Expiry(pool, after_s=AGE_S)

    async def expire() -> int:
        return sum([await expiry.expire(ids[start : start + 7]) for start in range(0, 600, 7)])

    async with open_pool(database_url) as posting_pool:
        poster = Poster(posting_pool)

        async def post() -> int:
            # From the other end, so that the two meet.
            batches = [ids[start : start + 10] for start in range(590, -1, -10)]
            return sum([len((await poster.post(batch)).posting.posted) for batch in batches])

        expired, posted = await asyncio.gather(expire(), post())

    owed = await database.fetch("SELECT unnest(transaction_ids) AS id FROM outbox")
    report = await verify(database, pending_max_s=300)
    assert expired > 0
    assert posted > 0
    assert expired + posted == len(ids)
    assert sorted(row["id"] for row in owed) == ids
    assert report.findings == ()
    assert report.by_status == {"COMPLETED": posted, "FAILED": expired}


@pytest.mark.parametrize(
    ("expire_after_s", "pause_s"), [(1.0, 10.0), (600.0, 60.0), (86_400.0, 600.0)]
)
def test_the_pause_between_last_calls_is_a_tenth_of_the_age_within_bounds(
    expire_after_s: float, pause_s: float
) -> None:
    assert last_call_pause_s(expire_after_s) == pause_s


async def test_transactions_end_all_together_or_not_at_all(database: Connection) -> None:
    """One of them was ended by somebody else: nothing is written of the other either."""
    one, other = await record_pending(database, 2)
    end = """
    SELECT end_transactions(clock_timestamp(), $1, 'PENDING', 'FAILED', $2::text[], $3::text[])
    """
    await database.execute(end, [one], ["expired"], ["why"])

    with pytest.raises(asyncpg.PostgresError, match="expected 2 failed, changed 1"):
        await database.execute(end, [one, other], ["expired"] * 2, ["why"] * 2)

    assert await _statuses(database) == ["FAILED", "PENDING"]
    assert await database.fetchval("SELECT count(*) FROM exceptional_transactions") == 1
    assert await database.fetchval("SELECT count(*) FROM outbox") == 1
