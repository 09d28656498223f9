"""Posting a batch in one database transaction."""

import asyncio
from uuid import UUID, uuid4

import asyncpg
import pytest

from contracts.record import Submission, recorded_rows, recording_arguments
from processor.poster import Poster
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries
from tests.integration.processor.books import (
    add_wallets,
    balances_of,
    record,
    recorded,
    transfer_command,
)


async def _status(database: Connection, transaction_id: UUID) -> str:
    status: str = await database.fetchval(
        "SELECT status::text FROM transactions WHERE id = $1", transaction_id
    )
    return status


async def test_a_batch_is_posted_in_its_order_with_its_refusals(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await record(
        database,
        [
            transfer_command("first", alice, bob, 80),
            transfer_command("second", alice, bob, 80),
            transfer_command("third", bob, alice, 150),
        ],
    )
    result = await Poster(pool).post(ids)

    assert [len(result.posting.posted), len(result.posting.refused)] == [2, 1]
    assert [await _status(database, one) for one in ids] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert await balances_of(database, [alice, bob]) == [170, 30]


async def test_posting_the_same_ids_again_changes_nothing(database: Connection, pool: Pool) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await record(database, [transfer_command("once", alice, bob, 30)])
    poster = Poster(pool)
    await asyncio.gather(*(poster.post([*ids, *ids]) for _ in range(8)))

    assert await balances_of(database, [alice, bob]) == [70, 130]
    assert await database.fetchval("SELECT count(*) FROM entries") == 2
    assert await database.fetchval("SELECT count(*) FROM outbox") == 1


async def test_an_unknown_id_is_left_out(database: Connection, pool: Pool) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await record(database, [transfer_command("known", alice, bob, 30)])
    result = await Poster(pool).post([uuid4(), *ids])

    assert [one.transaction_id for one in result.posting.posted] == ids


async def test_upstream_submissions_are_recorded_and_posted_in_one_commit(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    command = transfer_command("upstream", alice, bob, 30)
    other_content = transfer_command("upstream", alice, bob, 31)
    submissions = [Submission("shop", one) for one in (command, command, other_content)]
    result = await Poster(pool).post(submissions)

    assert [one.is_key_reused for one in recorded(result.outcomes)] == [False, False, True]
    assert len({one.transaction_id for one in recorded(result.outcomes)}) == 1
    assert await balances_of(database, [alice, bob]) == [70, 130]


async def test_a_failing_write_undoes_the_whole_batch(database: Connection, pool: Pool) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await record(database, [transfer_command("fails", alice, bob, 30)])
    # The entry that the transaction would become is there already: posting would double it.
    await database.execute("INSERT INTO entries VALUES ($1, 1, $2, 0, 100, now())", alice, uuid4())
    with pytest.raises(asyncpg.UniqueViolationError):
        await Poster(pool).post(ids)

    assert await _status(database, ids[0]) == "PENDING"
    assert await balances_of(database, [alice, bob]) == [100, 100]


async def test_a_wallets_entries_stay_in_time_order_though_the_clock_stepped_back(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    await database.execute(
        "UPDATE wallets SET updated_at = now() + interval '1 hour' WHERE id = $1", alice
    )
    ids = await record(database, [transfer_command("later", alice, bob, 30)])
    await Poster(pool).post(ids)

    assert await database.fetchval(
        "SELECT min(e.created_at) = max(w.updated_at) FROM entries AS e, wallets AS w "
        "WHERE w.id = ANY ($1)",
        [alice, bob],
    )


async def test_a_commit_under_way_survives_the_cancellation_of_whoever_waits(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await record(database, [transfer_command("cancelled", alice, bob, 30)])
    waiting = asyncio.ensure_future(Poster(pool).post(ids))
    await asyncio.wait({waiting}, timeout=0.001)
    waiting.cancel()
    await asyncio.wait({waiting})
    await Poster(pool).post(ids)

    assert await balances_of(database, [alice, bob]) == [70, 130]


async def test_a_reused_key_that_is_quarantined_leaves_the_first_transaction_alone(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    [first] = await record(database, [transfer_command("reused", alice, bob, 30)])
    other_content = Submission("test", transfer_command("reused", alice, bob, 31))
    buried: list[UUID | None] = []

    async def bury(transaction_id: UUID | None) -> None:
        buried.append(transaction_id)

    assert await Poster(pool).quarantine(other_content, bury=bury) is None

    assert buried == [None]
    assert await _status(database, first) == "PENDING"


async def test_a_repeated_request_is_told_that_it_is_not_new(database: Connection) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    submissions = [Submission("test", transfer_command("again", alice, bob, 30))]

    async def recorded() -> bool:
        rows = await database.fetch(
            load_queries("ingress")["record_transactions"], *recording_arguments(submissions)
        )
        return recorded_rows(rows, 1)[0].is_new

    assert [await recorded(), await recorded()] == [True, False]


async def test_what_was_read_ahead_and_ended_by_somebody_else_meanwhile_is_left_as_it_is(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await record(
        database,
        [transfer_command("early", alice, bob, 30), transfer_command("late", bob, alice, 5)],
    )
    poster = Poster(pool)
    loaded = await poster.load(ids)
    await poster.post(ids[:1])
    result = await poster.post(ids, loaded=loaded)

    assert [one.transaction_id for one in result.posting.posted] == ids[1:]
    assert await balances_of(database, [alice, bob]) == [75, 125]


async def test_a_refusal_that_was_read_ahead_and_expired_meanwhile_is_left_as_it_is(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await record(database, [transfer_command("too-much", alice, bob, 500)])
    poster = Poster(pool)
    loaded = await poster.load(ids)
    await poster.post(ids)
    result = await poster.post(ids, loaded=loaded)

    assert (result.posting.posted, result.posting.refused) == ([], [])
    assert await database.fetchval("SELECT count(*) FROM exceptional_transactions") == 1


async def test_submissions_that_are_read_ahead_are_recorded_before_their_turn(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    submissions = [Submission("shop", transfer_command("ahead", alice, bob, 30))]
    poster = Poster(pool)
    loaded = await poster.load(submissions)
    before = await _status(database, recorded(loaded.batch.outcomes)[0].transaction_id)
    await poster.post(submissions, loaded=loaded)

    assert before == "PENDING"
    assert await _status(database, recorded(loaded.batch.outcomes)[0].transaction_id) == "COMPLETED"
