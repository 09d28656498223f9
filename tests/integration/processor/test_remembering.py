"""What a poster remembers of its last batches is never more than a short cut."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import asyncpg
import pytest

from contracts.record import RECORDED_COLUMNS, Submission
from ledger.state import Posting
from processor.deciding import WalletCache
from processor.events.buffer import BufferedBatch, EventBuffer
from processor.events.messages import event_message, posted_message
from processor.events.owed import owed_by
from processor.intake import TOGETHER_MAX
from processor.poster import BatchResult, Loaded, Poster
from runtime.amqp.publisher import Outgoing
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries
from runtime.service.fault_points import FaultPoint, FaultPoints
from tests.integration.processor.books import (
    add_wallets,
    balances_of,
    record,
    transfer_command,
)


@pytest.fixture
def poster(pool: Pool) -> Poster:
    """A poster that remembers the wallets of its last batches."""
    return Poster(pool, wallet_cache=WalletCache())


async def _post(
    poster: Poster, database: Connection, key: str, source: UUID, destination: UUID, *, amount: int
) -> Posting:
    command = transfer_command(key, source, destination, amount)
    [transaction_id] = await record(database, [command])
    posting = (await poster.post([transaction_id])).posting
    assert isinstance(posting, Posting)
    return posting


async def test_wallets_of_the_last_batch_are_written_without_being_read(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    cache = WalletCache()
    poster = Poster(pool, wallet_cache=cache)
    await _post(poster, database, "first", alice, bob, amount=10)
    found, missing = cache.find([alice, bob])
    await _post(poster, database, "second", bob, alice, amount=1)

    assert ([found[one].wallet.balance for one in (alice, bob)], missing) == ([90, 110], [])
    assert await balances_of(database, [alice, bob]) == [91, 109]


async def test_a_wallet_that_was_frozen_since_the_last_batch_is_frozen_in_the_next(
    database: Connection, poster: Poster
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    await _post(poster, database, "before", alice, bob, amount=10)
    await database.execute("UPDATE wallets SET status = 'FROZEN' WHERE id = $1", bob)
    frozen = await _post(poster, database, "after", alice, bob, amount=10)
    await database.execute("UPDATE wallets SET status = 'ACTIVE' WHERE id = $1", bob)
    thawed = await _post(poster, database, "thawed", alice, bob, amount=10)

    assert [one.code for one in frozen.refused] == ["wallet_frozen"]
    assert len(thawed.posted) == 1
    assert await balances_of(database, [alice, bob]) == [80, 120]


async def test_the_wallets_of_a_few_transactions_are_read_with_them(
    database: Connection, poster: Poster
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    missing = uuid4()
    commands = [
        transfer_command(f"{number}", alice, missing if number % 2 else bob, 1)
        for number in range(TOGETHER_MAX + 1)
    ]
    ids = await record(database, commands)
    few = await poster.load(ids[:TOGETHER_MAX])
    many = await poster.load(ids)
    result = await poster.post(ids[:TOGETHER_MAX], loaded=few)

    def told(loaded: Loaded) -> dict[UUID, tuple[object, int | None]]:
        return {key: (one.wallet, one.writing.row_version) for key, one in loaded.wallets.items()}

    assert set(few.wallets) == {alice, bob}
    assert told(few) == told(many)
    assert len(result.posting.posted) == len(result.posting.refused) == TOGETHER_MAX / 2
    assert await balances_of(database, [alice, bob]) == [92, 108]


async def test_what_is_read_with_a_transaction_gives_way_to_what_the_last_batch_left(
    database: Connection, poster: Poster
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    await _post(poster, database, "first", alice, bob, amount=10)
    [second] = await record(database, [transfer_command("second", bob, alice, 1)])
    loaded = await poster.load([second])

    assert loaded.wallets == {}
    assert (await poster.post([second], loaded=loaded)).posting.posted
    assert await balances_of(database, [alice, bob]) == [91, 109]


async def test_what_another_poster_wrote_in_between_counts(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    posters = [Poster(pool, wallet_cache=WalletCache()) for _ in range(2)]
    for number in range(6):
        await _post(posters[number % 2], database, str(number), alice, bob, amount=25)

    assert await balances_of(database, [alice, bob]) == [0, 200]
    assert await database.fetchval("SELECT count(*) FROM transactions WHERE status = 'FAILED'") == 2
    assert await database.fetchval("SELECT max(sequence) FROM entries") == 4


async def test_nothing_is_refused_because_of_what_a_wallet_had_before(
    database: Connection, poster: Poster, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    await _post(poster, database, "before", alice, bob, amount=100)
    await database.execute("UPDATE wallets SET overdraft_limit = 50 WHERE id = $1", alice)
    raised = await _post(poster, database, "raised", alice, bob, amount=50)
    await _post(Poster(pool), database, "another's", bob, alice, amount=200)
    paid = await _post(poster, database, "paid", alice, bob, amount=150)

    assert (len(raised.posted), len(paid.posted)) == (1, 1)
    assert await balances_of(database, [alice, bob]) == [0, 200]


async def test_a_batch_that_was_undone_is_not_remembered(
    database: Connection, poster: Poster
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    await _post(poster, database, "first", alice, bob, amount=10)
    await database.execute("ALTER TABLE entries ADD CHECK (amount <> 7)")
    with pytest.raises(asyncpg.CheckViolationError):
        await _post(poster, database, "undone", alice, bob, amount=7)
    await _post(poster, database, "last", alice, bob, amount=10)

    assert await balances_of(database, [alice, bob]) == [80, 120]


class _Held(FaultPoints):
    """Holds a batch that is decided, until it is let go or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.reached = asyncio.Event()
        self.is_let_go = asyncio.Event()
        self._error = error

    async def reach(self, point: FaultPoint) -> None:
        """Wait, the first time."""
        assert point is FaultPoint.PROCESSOR_BEFORE_COMMIT
        if self.reached.is_set():
            return
        self.reached.set()
        await self.is_let_go.wait()
        if self._error is not None:
            raise self._error


async def _decided_ahead(
    pool: Pool, held: _Held, ids: Sequence[UUID], cache: WalletCache
) -> tuple["asyncio.Task[BatchResult]", Poster, Loaded]:
    """Post the second of three transfers and decide the third on it; the first makes them known."""
    await Poster(pool, wallet_cache=cache).post(ids[:1])
    poster = Poster(pool, wallet_cache=cache, fault_points=held)
    before = await poster.load(ids[1:2])
    posting = asyncio.create_task(poster.post(ids[1:2], loaded=before))
    await held.reached.wait()
    loaded = await poster.load(ids[2:])
    poster.decide_ahead(loaded, behind=before)
    held.is_let_go.set()
    return posting, poster, loaded


async def test_a_batch_is_decided_on_what_the_one_that_is_being_written_leaves(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    commands = [transfer_command(str(n), alice, bob, 50) for n in range(3)]
    ids = await record(database, commands)
    posting, poster, loaded = await _decided_ahead(pool, _Held(), ids, WalletCache())
    await posting
    assert loaded.decided is not None
    result = await poster.post(ids[2:], loaded=loaded)

    assert result.posting is loaded.decided.posting
    assert [one.code for one in result.posting.refused] == ["insufficient_funds"]
    assert await balances_of(database, [alice, bob]) == [0, 200]


async def test_what_was_decided_on_a_batch_that_failed_is_decided_again(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    commands = [transfer_command(str(n), alice, bob, 50) for n in range(3)]
    ids = await record(database, commands)
    held = _Held(ConnectionResetError("the network says no"))
    posting, poster, loaded = await _decided_ahead(pool, held, ids, WalletCache())
    with pytest.raises(ConnectionResetError):
        await posting
    assert loaded.decided is not None
    result = await poster.post(ids[2:], loaded=loaded)

    assert len(loaded.decided.posting.refused) == len(result.posting.posted) == 1
    assert await balances_of(database, [alice, bob]) == [0, 200]


async def test_nothing_is_decided_ahead_while_nothing_is_written(
    database: Connection, poster: Poster
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await record(database, [transfer_command(str(n), alice, bob, 50) for n in range(2)])
    first = await poster.load(ids[:1])
    loaded = await poster.load(ids[1:])
    poster.decide_ahead(loaded, behind=first)
    before = loaded.decided
    await poster.post(ids[:1], loaded=first)
    poster.decide_ahead(loaded, behind=first)

    assert (before, loaded.decided) == (None, None)


async def test_a_batch_whose_wallets_nobody_posted_to_yet_is_decided_ahead_too(
    database: Connection, pool: Pool
) -> None:
    alice, bob, carol, dave = await add_wallets(database, 4, balance=100)
    pairs = [(alice, bob), (alice, bob), (carol, dave)]
    ids = await record(database, [transfer_command(uuid4().hex, a, b, 50) for a, b in pairs])
    posting, poster, loaded = await _decided_ahead(pool, _Held(), ids, WalletCache())
    await posting
    result = await poster.post(ids[2:], loaded=loaded)

    assert loaded.decided is not None
    assert result.posting is loaded.decided.posting
    assert await balances_of(database, [carol, dave]) == [50, 150]


async def test_a_wallet_that_was_frozen_since_it_was_read_ahead_is_frozen(
    database: Connection, poster: Poster
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await record(database, [transfer_command("key", alice, bob, 50)])
    loaded = await poster.load(ids)
    await database.execute("UPDATE wallets SET status = 'FROZEN' WHERE id = $1", bob)
    result = await poster.post(ids, loaded=loaded)

    assert [one.code for one in result.posting.refused] == ["wallet_frozen"]
    assert await balances_of(database, [alice, bob]) == [100, 100]


async def test_a_wallet_that_came_since_it_was_looked_for_is_found(
    database: Connection, poster: Poster
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    newcomer = uuid4()
    ids = await record(database, [transfer_command("key", alice, newcomer, 50)])
    loaded = await poster.load(ids)
    await database.execute("UPDATE wallets SET id = $1 WHERE id = $2", newcomer, bob)
    result = await poster.post(ids, loaded=loaded)

    assert len(result.posting.posted) == 1
    assert await balances_of(database, [alice, newcomer]) == [50, 150]


async def _messages(
    pool: Pool, event_buffer: EventBuffer, database: Connection
) -> list[list[Outgoing]]:
    """The events of the one owed row: of what is remembered, and of what is in the tables."""
    row = await database.fetchrow("SELECT * FROM outbox")
    assert row is not None
    owed = owed_by(row)
    batch = event_buffer.get(owed.outbox_id)
    assert isinstance(batch, BufferedBatch)
    ids = owed.transaction_ids
    read = await pool.fetch(load_queries("processor")["read_transactions"], ids)
    by_id = {row["id"]: row for row in read}
    return [
        [posted_message(owed, one) for one in batch.rows(range(len(ids)))],
        [event_message(owed, by_id[one]) for one in ids],
    ]


async def test_an_event_from_memory_is_the_one_from_the_tables(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    commands = [transfer_command(str(n), alice, bob, 10) for n in range(3)]
    ids = await record(database, commands)
    await database.execute(
        "UPDATE transactions SET description = 'Miete \"März\"', metadata = '{\"a\":1}', "
        "request_id = 'r' WHERE id = $1",
        ids[1],
    )
    event_buffer = EventBuffer()
    await Poster(pool, event_buffer=event_buffer).post(ids)
    remembered, read = await _messages(pool, event_buffer, database)

    assert len(remembered) == 3
    assert remembered == read


async def test_a_row_that_was_just_recorded_is_what_reading_it_gives(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    commands = [transfer_command(str(n), alice, bob, 10) for n in range(3)]
    described = commands[1]._replace(description="Miete", metadata=b'{"a":1}')
    submissions = [Submission("shop", one, "request") for one in (commands[0], described)]
    event_buffer = EventBuffer()
    poster = Poster(pool, event_buffer=event_buffer)
    loaded = await poster.load([*submissions, submissions[0]])
    read = await pool.fetch(load_queries("processor")["read_pending"], list(loaded.batch.rows), 0)
    await poster.post(submissions, loaded=loaded)
    remembered, told = await _messages(pool, event_buffer, database)

    assert len(loaded.batch.outcomes) == 3
    columns = len(RECORDED_COLUMNS)
    assert {row["id"]: tuple(row.items())[:columns] for row in read} == {
        transaction_id: tuple(row.items()) for transaction_id, row in loaded.batch.rows.items()
    }
    assert remembered == told
