"""Transactions that were accepted without the broker's confirm keep their place."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from contracts.record import Submission, recording_arguments
from contracts.requests.references import atomic
from contracts.requests.transaction import TransactionCommand, command_of
from processor.poster import Poster
from processor.unannounced import EARLIER_MAX
from runtime.postgres.pool import Connection, Pool
from tests.integration.processor.books import (
    add_wallets,
    balances_of,
    record,
    recorded,
    transfer_command,
)


async def _mark(
    database: Connection, ids: Sequence[UUID], *, submitter: str = "test", partition: int = 0
) -> None:
    await database.executemany(
        "INSERT INTO unannounced_transactions VALUES ($1, $2, $3)",
        [(partition, submitter, one) for one in ids],
    )


async def _posted(database: Connection, wallet_id: UUID) -> list[UUID]:
    rows = await database.fetch(
        "SELECT transaction_id FROM entries WHERE wallet_id = $1 ORDER BY sequence", wallet_id
    )
    return [row["transaction_id"] for row in rows]


async def _transfers(
    database: Connection, source: UUID, destination: UUID, count: int, *, prefix: str = "t"
) -> list[UUID]:
    """Record transfers one after the other, as one client does that waits for each 202."""
    return [
        one
        for number in range(count)
        for one in await record(
            database, [transfer_command(f"{prefix}-{number}", source, destination, 1)]
        )
    ]


@pytest.mark.parametrize("delivered", [[2], [1, 2], [2, 1]])
async def test_what_was_accepted_earlier_and_not_announced_is_posted_first(
    database: Connection, pool: Pool, delivered: list[int]
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await _transfers(database, alice, bob, 3)
    await _mark(database, [ids[0]])
    result = await Poster(pool).post([ids[number] for number in delivered])

    expected = [ids[0], *(ids[number] for number in delivered)]
    assert await _posted(database, alice) == expected
    assert [one.transaction_id for one in recorded(result.outcomes)] == [
        ids[one] for one in delivered
    ]


async def test_what_was_accepted_later_waits_for_its_own_announcement(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await _transfers(database, alice, bob, 3)
    await _mark(database, [ids[2]])
    await Poster(pool).post([ids[0]])

    # The one in the middle may still be on its way: the last one must not overtake it.
    assert await _posted(database, alice) == [ids[0]]


@pytest.mark.parametrize(("submitter", "partition"), [("another", 0), ("test", 1)])
async def test_another_submitters_and_another_partitions_marks_are_left_alone(
    database: Connection, pool: Pool, submitter: str, partition: int
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await _transfers(database, alice, bob, 2)
    await _mark(database, [ids[0]], submitter=submitter, partition=partition)
    await Poster(pool).post([ids[1]])

    assert await _posted(database, alice) == [ids[1]]


async def test_an_upstream_message_comes_after_what_its_sender_had_accepted_over_http(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    [first] = await _transfers(database, alice, bob, 1)
    await _mark(database, [first])
    second = Submission("test", transfer_command("over-amqp", alice, bob, 1))
    result = await Poster(pool).post([second])

    assert await _posted(database, alice) == [first, recorded(result.outcomes)[0].transaction_id]


async def test_what_goes_before_an_upstream_message_brings_along_what_was_accepted_before_it(
    database: Connection, pool: Pool
) -> None:
    """Though that is announced, and stands behind the message in the queue."""
    alice, bob = await add_wallets(database, 2, balance=100)
    [announced, marked] = await _transfers(database, alice, bob, 2)
    await _mark(database, [marked])
    message = Submission("test", transfer_command("over-amqp", alice, bob, 1))
    poster = Poster(pool)
    result = await poster.post([message])
    await poster.post([announced])
    await poster.post([marked])

    assert await _posted(database, alice) == [
        announced,
        marked,
        recorded(result.outcomes)[0].transaction_id,
    ]


@pytest.mark.parametrize("is_swept", [False, True])
async def test_what_is_posted_in_between_hides_nothing_that_goes_before(
    database: Connection, pool: Pool, *, is_swept: bool
) -> None:
    """Two that were sent at the same time may be posted either way round: both go before a third.

    With the sweep past all of them, what is PENDING is found by the worklist.
    """
    alice, bob = await add_wallets(database, 2, balance=100)
    [slow, quick, marked] = await _transfers(database, alice, bob, 3)
    message = Submission("test", transfer_command("over-amqp", alice, bob, 1))
    poster = Poster(pool)
    await poster.post([quick])
    await _mark(database, [marked])
    if is_swept:
        await database.execute("INSERT INTO stale_transactions VALUES ($1, 0, now())", slow)
        await database.execute("UPDATE sweep_progress SET swept_until = $1", marked)
    result = await poster.post([message])

    last = recorded(result.outcomes)[0].transaction_id
    assert await _posted(database, alice) == [quick, slow, marked, last]


async def test_more_than_a_batch_of_unannounced_ones_goes_first_in_several_commits(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=10_000)
    count = 2 * EARLIER_MAX + EARLIER_MAX // 2
    commands = [transfer_command(f"t-{number}", alice, bob, 1) for number in range(count)]
    ids = [
        one
        for start in range(0, count, EARLIER_MAX)
        for one in await record(database, commands[start : start + EARLIER_MAX])
    ]
    [last] = await record(database, [transfer_command("last", alice, bob, 1)])
    await _mark(database, ids)
    sizes = []
    poster = Poster(pool)
    while (result := await poster.post([last])).is_partial:
        sizes.append(len(result.posting.posted))

    assert sizes == [EARLIER_MAX, EARLIER_MAX]
    assert await _posted(database, alice) == [*ids, last]


async def test_the_marks_of_what_was_posted_are_taken_with_the_next_ones(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await _transfers(database, alice, bob, 4)
    poster = Poster(pool)
    await _mark(database, [ids[0]])
    await poster.post([ids[1]])
    await _mark(database, [ids[2]])
    await poster.post([ids[3]])

    rows = await database.fetch("SELECT transaction_id FROM unannounced_transactions")
    assert [row["transaction_id"] for row in rows] == [ids[2]]
    assert await _posted(database, alice) == ids


async def test_two_that_post_the_same_unannounced_one_post_it_once(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await _transfers(database, alice, bob, 3)
    await _mark(database, [ids[0]])
    first, second = Poster(pool), Poster(pool)
    # Both have read it before either writes it.
    loaded = await first.load([ids[1]]), await second.load([ids[2]])
    await first.post([ids[1]], loaded=loaded[0])
    await second.post([ids[2]], loaded=loaded[1])

    assert await _posted(database, alice) == ids
    assert await balances_of(database, [alice, bob]) == [97, 103]


async def test_marks_without_a_pending_transaction_change_nothing(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await _transfers(database, alice, bob, 2)
    await Poster(pool).post([ids[0]])
    await _mark(database, [ids[0]])
    await Poster(pool).post([ids[1]])

    assert await _posted(database, alice) == ids


async def test_recording_keeps_the_order_of_one_group(
    database: Connection,
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    commands = [transfer_command(f"z-{9 - number}", alice, bob, 1) for number in range(9)]
    arguments = recording_arguments([Submission("test", one) for one in commands])
    rows = await database.fetch(
        "SELECT request, id FROM record_transactions("
        "'http', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        *arguments,
    )
    ids = [row["id"] for row in sorted(rows, key=lambda row: row["request"])]
    assert ids == sorted(ids)


async def test_a_member_of_an_atomic_batch_brings_along_what_goes_before_its_others(
    database: Connection, pool: Pool
) -> None:
    """They are posted with it, on wallets that nothing else of the batch has to do with."""
    alice, bob, carol, dave = await add_wallets(database, 4, balance=100)
    [announced] = await _transfers(database, carol, dave, 1, prefix="before")
    members = await record(
        database,
        atomic(
            [
                transfer_command("member-0", alice, bob, 1),
                transfer_command("member-1", carol, dave, 1),
            ],
            submitter="test",
        ),
    )
    marked, delivered = await _transfers(database, alice, bob, 2)
    await _mark(database, [marked])

    await Poster(pool).post([delivered])

    assert await _posted(database, alice) == [members[0], marked, delivered]
    assert await _posted(database, carol) == [announced, members[1]]


async def test_a_journal_keeps_its_place_on_each_of_its_wallets(
    database: Connection, pool: Pool
) -> None:
    alice, bob, carol, dave = await add_wallets(database, 4, balance=100)
    [announced] = await _transfers(database, carol, dave, 1, prefix="before")
    [journal] = await record(database, [_journal("journal", alice, carol)])
    marked, delivered = await _transfers(database, alice, bob, 2)
    await _mark(database, [marked])

    await Poster(pool).post([delivered])

    assert await _posted(database, alice) == [journal, marked, delivered]
    assert await _posted(database, carol) == [announced, journal]


async def test_a_marked_journal_brings_along_what_was_accepted_before_it(
    database: Connection, pool: Pool
) -> None:
    alice, bob, carol, dave = await add_wallets(database, 4, balance=100)
    [announced] = await _transfers(database, carol, dave, 1, prefix="before")
    [journal] = await record(database, [_journal("journal", alice, carol)])
    await _mark(database, [journal])
    [delivered] = await _transfers(database, alice, bob, 1)

    await Poster(pool).post([delivered])

    assert await _posted(database, alice) == [journal, delivered]
    assert await _posted(database, carol) == [announced, journal]


def _journal(key: str, source: UUID, destination: UUID) -> TransactionCommand:
    legs = [
        {"wallet_id": str(wallet), "amount": amount, "currency": "USD"}
        for wallet, amount in ((source, "-0.01"), (destination, "0.01"))
    ]
    return command_of({"idempotency_key": key, "type": "journal", "legs": legs})
