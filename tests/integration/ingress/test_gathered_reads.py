"""Reads of one instant share a query, and each is answered as if it had been alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest

from cli.dependencies import Connection
from ingress.reads.gathered import WORKERS, GatheredReads
from ingress.reads.wallets import PAGES_MAX, SEQUENCE_MAX, EntryPage, WalletStore
from processor.poster import Poster
from runtime.postgres.pool import ACQUIRE_TIMEOUT_S, KEYED_SESSION, Pool, create_pool
from tests.integration.ingress.document import CheckedApi
from tests.integration.processor.books import add_wallets, record, transfer_command
from tests.support import eventually

READERS = 100
BOUND_S = 20
_INSERT = """
INSERT INTO wallets (id, owner_id, currency)
SELECT gen_random_uuid(), 'owner', 'USD' FROM generate_series(1, $1::integer)
RETURNING id
"""
_WAITING = """
SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'wallets'::regclass
"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """One connection more than reads may take."""
    async with create_pool(
        database_url,
        name="test",
        size=WORKERS + 1,
        statement_timeout_s=30,
        session=dict(KEYED_SESSION),
    ) as opened:
        yield opened


@asynccontextmanager
async def _reading(loop: WalletStore | GatheredReads) -> AsyncIterator[None]:
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _wallets(database: Connection, count: int) -> list[UUID]:
    return [row["id"] for row in await database.fetch(_INSERT, count)]


async def _queries_wait(database: Connection, count: int) -> None:
    async def look() -> bool:
        return bool(await database.fetchval(_WAITING) == count)

    await eventually(look, what=f"{count} queries wait for the table")


async def test_each_reader_gets_its_own_row_or_none(pool: Pool, database: Connection) -> None:
    wallets = await _wallets(database, READERS)
    wanted = [*wallets, *wallets[:10], uuid4()]
    store = WalletStore(pool, lists=pool)
    async with _reading(store):
        rows = await asyncio.gather(*(store.read(one) for one in wanted))

    assert [row and row["id"] for row in rows] == [*wanted[:-1], None]


async def test_however_many_read_a_connection_is_left(pool: Pool, database: Connection) -> None:
    wallets = await _wallets(database, READERS)
    store = WalletStore(pool, lists=pool)
    async with _reading(store), asyncio.timeout(BOUND_S):
        async with database.transaction():
            await database.execute("LOCK TABLE wallets")
            reads = []
            for number in range(1, WORKERS + 1):
                reads += [asyncio.create_task(store.read(one)) for one in wallets]
                await _queries_wait(database, number)
            reads += [asyncio.create_task(store.read(one)) for one in wallets]
            assert [await pool.fetchval("SELECT 1") for _ in range(3)] == [1, 1, 1]
            assert not any(one.done() for one in reads)
        assert all(await asyncio.gather(*reads))


async def test_a_reader_that_is_gone_takes_nobody_s_answer(
    pool: Pool, database: Connection
) -> None:
    wallets = await _wallets(database, 10)
    store = WalletStore(pool, lists=pool)
    async with _reading(store), asyncio.timeout(BOUND_S):
        async with database.transaction():
            await database.execute("LOCK TABLE wallets")
            reads = [asyncio.create_task(store.read(one)) for one in wallets]
            await _queries_wait(database, 1)
            reads[1].cancel()
        rows = await asyncio.gather(reads[0], *reads[2:])

    assert [row and row["id"] for row in rows] == [wallets[0], *wallets[2:]]


async def test_a_query_that_fails_fails_its_readers_and_nothing_later(
    pool: Pool, database: Connection
) -> None:
    [wallet] = await _wallets(database, 1)
    store = WalletStore(pool, lists=pool)
    async with _reading(store), asyncio.timeout(BOUND_S):
        await database.execute("ALTER TABLE wallets RENAME TO away")
        failed = await asyncio.gather(
            *(store.read(wallet) for _ in range(READERS)), return_exceptions=True
        )
        await database.execute("ALTER TABLE away RENAME TO wallets")
        row = await store.read(wallet)

    assert {type(one) for one in failed} == {asyncpg.UndefinedTableError}
    assert row is not None


async def test_pages_of_one_instant_are_told_apart(database: Connection, pool: Pool) -> None:
    wallets = await add_wallets(database, 3, balance=10)
    moves = [transfer_command(uuid4().hex, wallets[0], wallets[1], 1) for _ in range(3)]
    await Poster(pool).post(await record(database, moves))
    store = WalletStore(pool, lists=pool)
    asked = [
        EntryPage(wallet, below, 0, most)
        for wallet in wallets
        for below, most in ((SEQUENCE_MAX, 2), (SEQUENCE_MAX, 9), (2, 9), (SEQUENCE_MAX, 2))
    ]
    async with _reading(store), asyncio.timeout(BOUND_S):
        found = await asyncio.gather(*(store.entries_soon(one) for one in asked))

    told = [[(row["wallet_id"], row["sequence"]) for row in entries] for [entries] in found]
    assert told == [
        [(one.wallet_id, number) for number in (3, 2, 1) if number < one.below][: one.most]
        if one.wallet_id in wallets[:2]
        else []
        for one in asked
    ]


async def test_a_page_waits_no_longer_than_others_do_for_a_connection(pool: Pool) -> None:
    store = WalletStore(pool, lists=pool)
    pages = [EntryPage(uuid4(), SEQUENCE_MAX, 0, 9) for _ in range(3 * WORKERS * PAGES_MAX)]
    async with AsyncExitStack() as held:
        for _ in range(WORKERS + 1):
            await held.enter_async_context(pool.acquire())
        # Group after group would wait three times as long.
        async with _reading(store), asyncio.timeout(2 * ACQUIRE_TIMEOUT_S):
            found = await asyncio.gather(
                *(store.entries_soon(one) for one in pages), return_exceptions=True
            )

    assert len(found) == len(pages)
    for one in found:
        with pytest.raises(TimeoutError):
            raise one if isinstance(one, BaseException) else AssertionError(one)


async def test_who_was_told_of_a_commit_reads_it_over_the_wire(api: CheckedApi) -> None:
    wallets = [await api.create_wallet() for _ in range(20)]

    async def pay_and_read(wallet: str, units: int) -> list[str]:
        balances = []
        for _ in range(3):
            await api.deposit(wallet, f"{units}.00")
            balances.append(await api.balance(wallet))
        return balances

    found = await asyncio.gather(
        *(pay_and_read(wallet, units) for units, wallet in enumerate(wallets, 1))
    )

    assert found == [[f"{units * n}.00" for n in (1, 2, 3)] for units in range(1, 21)]


async def test_many_at_once_are_answered_each_for_itself_over_the_wire(api: CheckedApi) -> None:
    wallets = [await api.create_wallet() for _ in range(10)]
    answers = await asyncio.gather(
        *(api.get(f"/v1/wallets/{one}") for one in [*wallets, *wallets, str(uuid4())])
    )

    assert [one.json.get("id") for one in answers[:-1]] == [*wallets, *wallets]
    assert (answers[-1].status, answers[-1].code) == (404, "wallet_not_found")
