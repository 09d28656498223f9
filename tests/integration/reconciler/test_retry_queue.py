"""Stale transactions are published again, in order, with patience, and never as a flood."""

import asyncio
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY

from contracts.messages import encode_recorded
from contracts.record import partition_of_wallet
from reconciler.retry_queue import (
    FIRST_DELAY_S,
    QUEUE_DEPTH_MAX,
    QueueDepth,
    RetryQueue,
    Sweep,
)
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher, UnroutableError
from runtime.postgres.pool import Connection, Pool
from tests.integration.reconciler.parts import PARTITIONS, QUEUES, make_retry_queue
from tests.integration.reconciler.pending import record_pending, taken_ids
from tests.integration.reconciler.serving import running
from tests.integration.reconciler.terms import record_with_terms


async def _make_stale(pool: Pool) -> None:
    await Sweep(pool).run_once(older_than_s=0)


async def _make_due(database: Connection) -> None:
    await database.execute("UPDATE stale_transactions SET next_attempt_at = now()")


def _wallet_of(partition: int) -> UUID:
    while True:
        wallet_id = uuid4()
        if partition_of_wallet(wallet_id, PARTITIONS) == partition:
            return wallet_id


async def test_each_partition_gets_its_transactions_in_accepted_order(
    pool: Pool, database: Connection, retry_queue: RetryQueue, channel: Channel
) -> None:
    wallets = [_wallet_of(number % 2) for number in range(20)]
    ids = await record_pending(database, wallet_ids=wallets)
    await _make_stale(pool)

    counts = await retry_queue.run_once()

    assert counts.republished == 20
    assert await taken_ids(channel, QUEUES[0]) == [ids[0::2]]
    assert await taken_ids(channel, QUEUES[1]) == [ids[1::2]]


@pytest.mark.parametrize("kind", ["deposit", "withdrawal", "transfer"])
async def test_the_wallet_that_orders_a_transaction_decides_its_partition(
    pool: Pool, database: Connection, retry_queue: RetryQueue, channel: Channel, kind: str
) -> None:
    ids = await record_pending(database, kind=kind, wallet_ids=[_wallet_of(0), _wallet_of(1)])
    await _make_stale(pool)

    await retry_queue.run_once()

    assert [await taken_ids(channel, queue) for queue in QUEUES] == [[[ids[0]]], [[ids[1]]]]


async def test_a_message_holds_at_most_a_group(
    pool: Pool, database: Connection, retry_queue: RetryQueue, channel: Channel
) -> None:
    ids = await record_pending(database, wallet_ids=[_wallet_of(0)] * 600)
    await _make_stale(pool)

    await retry_queue.run_once()

    groups = await taken_ids(channel, QUEUES[0])
    assert [len(group) for group in groups] == [256, 256, 88]
    assert [one for group in groups for one in group] == ids


async def test_what_was_published_again_has_time_to_be_posted(
    pool: Pool, database: Connection, retry_queue: RetryQueue
) -> None:
    await record_pending(database, 5)
    await _make_stale(pool)

    first = await retry_queue.run_once()
    second = await retry_queue.run_once()

    assert (first.republished, second.republished, second.waiting) == (5, 0, 5)


async def test_the_pause_between_two_tries_doubles_up_to_ten_minutes(
    pool: Pool, database: Connection, retry_queue: RetryQueue
) -> None:
    await record_pending(database, 1)
    await _make_stale(pool)
    pauses = []
    for _ in range(9):
        await retry_queue.run_once()
        pause_s = await database.fetchval(
            "SELECT extract(epoch FROM next_attempt_at - clock_timestamp()) FROM stale_transactions"
        )
        pauses.append(float(pause_s))
        await _make_due(database)

    expected = [min(FIRST_DELAY_S * 2**number, 600.0) for number in range(9)]
    assert pauses == pytest.approx(expected, abs=2.0)
    assert await database.fetchval("SELECT attempts FROM stale_transactions") == 9


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "QUARANTINED"])
async def test_what_is_pending_no_longer_leaves_the_retry_queue_unpublished(
    pool: Pool, database: Connection, retry_queue: RetryQueue, channel: Channel, status: str
) -> None:
    await record_pending(database, 3)
    await _make_stale(pool)
    await database.execute("UPDATE transactions SET status = $1::transaction_status", status)

    counts = await retry_queue.run_once()

    assert (counts.ended, counts.republished, counts.waiting) == (3, 0, 0)
    assert [await taken_ids(channel, queue) for queue in QUEUES] == [[], []]


async def test_what_was_posted_after_it_was_published_leaves_the_retry_queue(
    pool: Pool, database: Connection, retry_queue: RetryQueue
) -> None:
    await record_pending(database, 3)
    await _make_stale(pool)
    await retry_queue.run_once()
    await database.execute("UPDATE transactions SET status = 'COMPLETED'")

    counts = await retry_queue.run_once()

    assert (counts.ended, counts.republished, counts.waiting) == (3, 0, 0)


async def test_marks_of_unannounced_transactions_are_kept_while_those_are_pending(
    database: Connection, retry_queue: RetryQueue
) -> None:
    ids = await record_pending(database, 3)
    await database.executemany(
        "INSERT INTO unannounced_transactions VALUES (0, 'test', $1)", [(one,) for one in ids]
    )
    await database.execute("UPDATE transactions SET status = 'FAILED' WHERE id = $1", ids[1])

    await retry_queue.run_once()

    rows = await database.fetch("SELECT transaction_id FROM unannounced_transactions ORDER BY 1")
    assert [row["transaction_id"] for row in rows] == [ids[0], ids[2]]


async def test_never_more_than_the_bound_is_in_flight(
    pool: Pool, database: Connection, publisher: Publisher, depth: QueueDepth
) -> None:
    ids = await record_pending(database, 25)
    await _make_stale(pool)
    narrow = make_retry_queue(pool, publisher, depth, in_flight_max=10)

    republished = [(await narrow.run_once()).republished for _ in range(2)]
    await database.execute(
        "UPDATE transactions SET status = 'COMPLETED' WHERE id = ANY ($1)", ids[:4]
    )
    republished.append((await narrow.run_once()).republished)

    assert republished == [10, 0, 4]


async def test_a_deep_queue_pauses_it(
    pool: Pool, database: Connection, retry_queue: RetryQueue, channel: Channel
) -> None:
    for _ in range(QUEUE_DEPTH_MAX + 1):
        await channel.basic_publish(encode_recorded([uuid4()]), routing_key=QUEUES[1])
    await record_pending(database, 5)
    await _make_stale(pool)

    paused = await retry_queue.run_once()
    await channel.queue_purge(QUEUES[1])
    resumed = await retry_queue.run_once()

    assert (paused.is_paused, paused.republished) == (True, 0)
    assert (resumed.is_paused, resumed.republished) == (False, 5)


async def test_messages_that_wait_without_an_active_consumer_are_counted(
    depth: QueueDepth, channel: Channel
) -> None:
    def unserved() -> float | None:
        labels = {"queue": QUEUES[0]}
        return REGISTRY.get_sample_value("ackledger_reconciler_unserved_messages", labels)

    for _ in range(3):
        await channel.basic_publish(encode_recorded([uuid4()]), routing_key=QUEUES[0])
    await depth.look()
    alone = unserved()
    taken: asyncio.Queue[object] = asyncio.Queue()
    await channel.basic_qos(prefetch_count=1)
    await channel.basic_consume(QUEUES[0], taken.put)
    await taken.get()
    await depth.look()

    assert (alone, unserved()) == (3, 0)


async def test_what_the_broker_did_not_confirm_is_due_at_once(
    pool: Pool, database: Connection, publisher: Publisher, broker_url: str, channel: Channel
) -> None:
    """One partition's queue is not there: what goes to it comes back as unroutable."""
    ids = await record_pending(database, wallet_ids=[_wallet_of(0), _wallet_of(1)])
    await _make_stale(pool)
    await channel.queue_delete(QUEUES[1])
    depth = QueueDepth(broker_url, partitions=1)
    retry_queue = make_retry_queue(pool, publisher, depth)

    async with running(depth):
        await depth.wait_until_up()
        with pytest.raises(UnroutableError):
            await retry_queue.run_once()

    rows = await database.fetch(
        "SELECT transaction_id, attempts, next_attempt_at <= clock_timestamp() AS is_due"
        " FROM stale_transactions ORDER BY transaction_id"
    )
    assert [tuple(row) for row in rows] == [(ids[0], 1, False), (ids[1], 0, True)]


async def test_nothing_is_claimed_while_a_queue_is_missing(
    pool: Pool, database: Connection, retry_queue: RetryQueue, channel: Channel
) -> None:
    await record_pending(database, 3)
    await _make_stale(pool)
    await channel.queue_delete(QUEUES[0])

    with pytest.raises(ConnectionError):
        await retry_queue.run_once()

    assert await database.fetchval("SELECT max(attempts) FROM stale_transactions") == 0


async def test_two_retry_queues_at_once_publish_each_transaction_once(
    pool: Pool, database: Connection, retry_queue: RetryQueue, channel: Channel
) -> None:
    ids = await record_pending(database, 700)
    await _make_stale(pool)

    counts = await asyncio.gather(*(retry_queue.run_once() for _ in range(3)))

    groups = [group for queue in QUEUES for group in await taken_ids(channel, queue)]
    assert sum(one.republished for one in counts) == 700
    assert sorted(one for group in groups for one in group) == ids


async def test_an_atomic_batch_goes_where_its_first_member_goes_in_one_message(
    pool: Pool, database: Connection, retry_queue: RetryQueue, channel: Channel
) -> None:
    plain = await record_pending(database, wallet_ids=[_wallet_of(1)] * 200)
    batch_id = str(uuid4())
    members = await record_with_terms(
        database,
        [{"batch_id": batch_id}] * 300,
        wallets=[(_wallet_of(1 - number % 2), uuid4()) for number in range(300)],
    )
    await _make_stale(pool)

    counts = await retry_queue.run_once()

    assert counts.republished == 500
    assert await taken_ids(channel, QUEUES[0]) == []
    assert await taken_ids(channel, QUEUES[1]) == [plain, members]


async def test_with_one_member_of_an_atomic_batch_all_are_announced(
    pool: Pool, database: Connection, retry_queue: RetryQueue, channel: Channel
) -> None:
    """The others are on the retry queue too, but not due."""
    batch_id = str(uuid4())
    first, second, third = await record_with_terms(
        database,
        [{"batch_id": batch_id}] * 3,
        wallets=[(_wallet_of(number % 2), uuid4()) for number in range(3)],
    )
    await _make_stale(pool)
    await database.execute(
        "UPDATE stale_transactions SET next_attempt_at = now() + interval '1 min'"
        " WHERE transaction_id <> $1",
        second,
    )

    await retry_queue.run_once()

    groups = [await taken_ids(channel, queue) for queue in QUEUES]
    assert groups == [[[first, second, third]], []]


async def test_what_names_no_wallet_goes_to_the_first_partition(
    pool: Pool, database: Connection, retry_queue: RetryQueue, channel: Channel
) -> None:
    legs = [
        {"wallet_id": str(uuid4()), "currency": "EUR", "amount": amount, "is_external": False}
        for amount in (-5, 5)
    ]
    [journal] = await record_with_terms(
        database, [{"legs": legs}], kind="journal", wallets=[(None, None)]
    )
    [capture] = await record_with_terms(
        database, [{"hold_id": str(uuid4())}], kind="capture", wallets=[(None, None)]
    )
    await _make_stale(pool)

    await retry_queue.run_once()

    assert await taken_ids(channel, QUEUES[0]) == [[journal, capture]]
