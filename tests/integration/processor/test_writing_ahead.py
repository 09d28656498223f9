"""A batch is sent while the one before it is still being written, and waits for that commit."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import pytest

from processor.deciding import WalletCache
from processor.events.buffer import CLAIMANT_SETTING, EventBuffer
from processor.poster import BatchResult, Loaded, Poster
from processor.writing import FEW_MAX
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import KEYED_SESSION, Connection, Pool, create_pool
from runtime.service.fault_points import FaultPoint, FaultPoints
from tests.integration.processor.books import (
    add_wallets,
    balances_of,
    record,
    transfer_command,
)
from tests.integration.processor.waiting import kept, until_wait
from tests.integration.relay.queues import bind_queue, emptied
from tests.integration.relay.relaying import ids_of, relay_of
from tests.support import eventually

COUNT = FEW_MAX + 4
"""Transactions of a batch that others are sent behind."""
_FREEZE = "UPDATE wallets SET status = 'FROZEN', updated_at = now() WHERE id = $1"


async def _transfers(
    database: Connection, prefix: str, source: UUID, destination: UUID, *, count: int = COUNT
) -> list[UUID]:
    commands = [transfer_command(f"{prefix}-{n}", source, destination, 1) for n in range(count)]
    return await record(database, commands)


async def _sent(
    poster: Poster, database: Connection, first: Sequence[UUID], second: Sequence[UUID]
) -> tuple["asyncio.Task[BatchResult]", Loaded]:
    """Send a batch whose wallet is kept, and another one behind it."""
    before = await poster.load(first)
    posting = asyncio.create_task(poster.post(first, loaded=before))
    await until_wait(database, 1)
    loaded = await poster.load(second)
    poster.decide_ahead(loaded, behind=before)
    return posting, loaded


async def _both_sent(
    poster: Poster, database: Connection, first: Sequence[UUID], second: Sequence[UUID]
) -> tuple["asyncio.Task[BatchResult]", Loaded, "asyncio.Task[BatchResult | None]"]:
    """The same until both wait in the server, with what becomes of the second."""
    posting, loaded = await _sent(poster, database, first, second)
    await until_wait(database, 2)
    assert loaded.ahead is not None
    return posting, loaded, loaded.ahead


def _poster(pool: Pool, *, buffer: EventBuffer | None = None) -> Poster:
    return Poster(pool, wallet_cache=WalletCache(), event_buffer=buffer)


async def test_a_batch_is_written_as_soon_as_the_one_before_is(
    database: Connection, database_url: str, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    first = await _transfers(database, "first", alice, bob)
    second = await _transfers(database, "second", bob, alice, count=2 * COUNT)
    poster = _poster(pool)
    async with kept(database_url, bob):
        posting, loaded, ahead = await _both_sent(poster, database, first, second)
    written = await ahead
    result = await poster.post(second, loaded=loaded)

    assert len((await posting).posting.posted) == COUNT
    assert result is written
    assert len(result.posting.posted) == 2 * COUNT
    assert await balances_of(database, [alice, bob]) == [2 * COUNT, 0]


async def test_refusals_rest_on_what_the_batch_before_leaves(
    database: Connection, database_url: str, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    first = await _transfers(database, "first", alice, bob)
    second = await _transfers(database, "second", alice, bob)
    poster = _poster(pool)
    async with kept(database_url, bob):
        posting, loaded, ahead = await _both_sent(poster, database, first, second)
    await posting
    result = await poster.post(second, loaded=loaded)

    assert result is await ahead
    assert len(result.posting.refused) == COUNT


async def test_a_batch_behind_one_that_rests_on_other_rows_is_decided_again_after_it(
    database: Connection, database_url: str, pool: Pool
) -> None:
    alice, bob, carol = await add_wallets(database, 3, balance=COUNT)
    first = await _transfers(database, "first", alice, bob)
    second = await _transfers(database, "second", alice, carol)
    poster = _poster(pool)
    async with kept(database_url, bob, by=_FREEZE):
        posting, loaded, ahead = await _both_sent(poster, database, first, second)
    refused = (await posting).posting.refused
    missed = await ahead
    result = await poster.post(second, loaded=loaded)

    assert [one.code for one in refused] == ["wallet_frozen"] * COUNT
    assert missed is None
    assert len(result.posting.posted) == COUNT
    assert await balances_of(database, [alice, bob, carol]) == [0, COUNT, 2 * COUNT]


async def test_a_batch_that_shares_no_wallet_waits_for_the_one_before_too(
    database: Connection, database_url: str, pool: Pool
) -> None:
    """What is refused now may be possible later: who comes after must not go before."""
    alice, bob, carol, dave = await add_wallets(database, 4, balance=COUNT)
    first = await _transfers(database, "first", alice, bob)
    second = await _transfers(database, "second", carol, dave)
    poster = _poster(pool)
    async with kept(database_url, bob, by=_FREEZE):
        posting, loaded, ahead = await _both_sent(poster, database, first, second)
    await posting
    missed = await ahead
    result = await poster.post(second, loaded=loaded)

    assert missed is None
    assert len(result.posting.posted) == COUNT


async def test_batches_are_noted_in_the_order_of_their_commits(
    database: Connection, database_url: str, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    first = await _transfers(database, "first", alice, bob)
    second = await _transfers(database, "second", bob, alice)
    buffer = EventBuffer(claimant=UUID(int=1))
    poster = _poster(pool, buffer=buffer)
    buffer.has_others = False
    async with kept(database_url, bob):
        posting, loaded, _ = await _both_sent(poster, database, first, second)
    await posting
    await poster.post(second, loaded=loaded)
    rows = await database.fetch("SELECT id FROM outbox ORDER BY id")
    found = await database.fetch(
        "SELECT created_at FROM entries WHERE wallet_id = $1 ORDER BY sequence", alice
    )

    assert [one.outbox_id for one in buffer.oldest(2)] == [row["id"] for row in rows]
    moments = [row["created_at"] for row in found]
    assert moments == sorted(moments)


async def test_nothing_is_sent_behind_a_part_of_the_batch_before(
    database: Connection, database_url: str, pool: Pool
) -> None:
    """A batch that fails is posted in parts: the rest of it would come after what is behind."""
    alice, bob = await add_wallets(database, 2, balance=3 * COUNT)
    first = await _transfers(database, "first", alice, bob, count=2 * COUNT)
    second = await _transfers(database, "second", bob, alice)
    poster = _poster(pool)
    whole = await poster.load(first)
    async with kept(database_url, bob):
        posting = asyncio.create_task(poster.post(first[:COUNT]))
        await until_wait(database, 1)
        loaded = await poster.load(second)
        poster.decide_ahead(loaded, behind=whole)
    await posting

    assert loaded.decided is not None
    assert loaded.ahead is None


async def test_a_turn_that_does_not_come_within_the_bound_of_a_lock_costs_nothing(
    database: Connection, database_url: str
) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    first = await _transfers(database, "first", alice, bob)
    second = await _transfers(database, "second", bob, alice)
    async with create_pool(
        database_url,
        name="test",
        size=4,
        statement_timeout_s=60,
        session={**KEYED_SESSION, "lock_timeout": "400"},
    ) as pool:
        poster = _poster(pool)
        async with kept(database_url, bob):
            posting, loaded = await _sent(poster, database, first, second)
            ahead = loaded.ahead
            assert ahead is not None
            missed = await ahead
        with pytest.raises(asyncpg.LockNotAvailableError):
            await posting
        await poster.post(first)
        result = await poster.post(second, loaded=loaded)

    assert missed is None
    assert len(result.posting.posted) == COUNT
    assert await balances_of(database, [alice, bob]) == [COUNT, COUNT]


async def test_nothing_is_sent_behind_a_few(
    database: Connection, database_url: str, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    first = await _transfers(database, "first", alice, bob, count=FEW_MAX)
    second = await _transfers(database, "second", bob, alice)
    poster = _poster(pool)
    async with kept(database_url, bob):
        posting, loaded = await _sent(poster, database, first, second)
    await posting
    result = await poster.post(second, loaded=loaded)

    assert loaded.decided is not None
    assert loaded.ahead is None
    assert len(result.posting.posted) == COUNT


async def test_what_was_posted_before_may_owe_events_that_are_not_in_memory(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    ids = await _transfers(database, "twice", alice, bob)
    await Poster(pool).post(ids)
    buffer = EventBuffer(claimant=UUID(int=1))
    poster = _poster(pool, buffer=buffer)
    buffer.has_others = False
    await poster.post(ids)

    assert buffer.has_others


class _Failing(FaultPoints):
    """Loses the connection before each commit."""

    async def reach(self, point: FaultPoint) -> None:
        """Fail."""
        assert point is FaultPoint.PROCESSOR_BEFORE_COMMIT
        raise ConnectionResetError("the network says no")


async def test_what_a_commit_may_owe_that_nobody_heard_of_is_told_first(
    database: Connection, pool: Pool
) -> None:
    """Whether it was committed is not known: the relay looks for its events in the table."""
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    ids = await _transfers(database, "lost", alice, bob)
    buffer = EventBuffer(claimant=UUID(int=1))
    poster = Poster(pool, wallet_cache=WalletCache(), event_buffer=buffer, fault_points=_Failing())
    buffer.has_others = False
    with pytest.raises(ConnectionResetError):
        await poster.post(ids)

    assert buffer.has_others


def _connections(pool: Pool) -> list["asyncpg.Connection[asyncpg.Record]"]:
    """Return those that a pool has opened."""
    found = (one._con for one in pool._holders)  # type: ignore[attr-defined]  # of the library
    return [one for one in found if one is not None]


async def test_a_commit_whose_answer_was_lost_is_told_of_before_the_one_behind_it(
    database: Connection, database_url: str, publisher: Publisher, channel: Channel
) -> None:
    """Its connection is lost, the relay looks for its events, and then it is committed."""
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    first = await _transfers(database, "first", alice, bob)
    second = await _transfers(database, "second", bob, alice)
    buffer = EventBuffer(claimant=UUID(int=1))
    session = {**KEYED_SESSION, CLAIMANT_SETTING: str(buffer.claimant)}
    await bind_queue(channel, "events")
    async with create_pool(
        database_url, name="test", size=6, statement_timeout_s=60, session=session
    ) as pool:
        poster, relay = _poster(pool, buffer=buffer), relay_of(pool, publisher, event_buffer=buffer)
        before = await poster.load(first)
        async with kept(database_url, bob):
            posting = asyncio.create_task(poster.post(first, loaded=before))
            await until_wait(database, 1)
            of_first = _connections(pool)
            loaded = await poster.load(second)
            poster.decide_ahead(loaded, behind=before)
            await until_wait(database, 2)
            for connection in of_first:
                connection.terminate()
            with pytest.raises(asyncpg.ConnectionDoesNotExistError):
                await posting
            assert (await relay.run_once()).owed == 0
        result = await poster.post(second, loaded=loaded)
        from_memory = buffer.oldest(2)
        await relay.run_once()

    assert len(result.posting.posted) == COUNT
    assert from_memory == []
    assert ids_of(await emptied(channel, "events")) == [*first, *second]


async def test_a_commit_whose_answer_was_lost_is_told_of_before_what_comes_again_with_it(
    database: Connection, database_url: str
) -> None:
    """The relay has looked before it was committed, and its batch comes again with others."""
    alice, bob = await add_wallets(database, 2, balance=2 * COUNT)
    first = await _transfers(database, "first", alice, bob)
    second = await _transfers(database, "second", alice, bob)
    buffer = EventBuffer(claimant=UUID(int=1))
    async with create_pool(
        database_url, name="test", size=6, statement_timeout_s=60, session=KEYED_SESSION
    ) as pool:
        poster = _poster(pool, buffer=buffer)
        async with kept(database_url, bob):
            posting = asyncio.create_task(poster.post(first))
            await until_wait(database, 1)
            for connection in _connections(pool):
                connection.terminate()
            with pytest.raises(asyncpg.ConnectionDoesNotExistError):
                await posting
            buffer.has_others = False  # the relay has looked

        async def is_committed() -> bool:
            return bool(await database.fetchval("SELECT count(*) = 1 FROM outbox"))

        await eventually(is_committed, what="a commit that nobody heard of")
        await poster.post([*first, *second])

    assert buffer.has_others
