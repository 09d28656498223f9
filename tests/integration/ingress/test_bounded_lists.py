"""No filter walks the table: a page examines a bounded number of rows, whatever it looks for."""

from collections.abc import AsyncIterator
from itertools import product
from uuid import UUID, uuid4

import pytest

from contracts.requests.transaction import TransactionStatus, TransactionType
from contracts.requests.wallet import RequestedKind, WalletStatus
from ingress.reads.transactions import MetadataMember, TransactionFilter, TransactionStore
from ingress.reads.wallets import EntryFilter, WalletFilter, WalletStore
from runtime.access.wallets import Holder
from runtime.postgres.pool import KEYED_SESSION, Pool, connect, create_pool
from runtime.service.pagination import EXAMINED_MAX
from tests.conftest import create_database, drop_database
from tools.stack import Stack

pytestmark = pytest.mark.long

ROWS = 3 * EXAMINED_MAX
_HOT = UUID(int=7)
_IN_JOURNALS = UUID(int=8)
"""Has three legs of each transaction."""
_LAST = UUID(int=2**128 - 1)

_FILL_TRANSACTIONS = """
INSERT INTO transactions (
    id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
    destination_wallet_id, amount, currency, status, source_sequence, created_at
)
SELECT
    uuid_v7(clock_us(), n % 16000), 'test', n::text, '', 'http', 'transfer', $2,
    gen_random_uuid(), 1, 'USD', 'COMPLETED', n, now()
FROM generate_series(1, $1::integer) AS n
"""
_FILL_ENTRIES = """
INSERT INTO entries (wallet_id, sequence, transaction_id, amount, balance_after, created_at)
SELECT
    source_wallet_id, source_sequence, id, -1, -source_sequence,
    now() + source_sequence * interval '1 microsecond'
FROM transactions
"""
_FILL_WALLETS = """
INSERT INTO wallets (id, owner_id, currency, created_by)
SELECT uuid_v7(clock_us(), n % 16000), 'owner', 'USD', 'maker'
FROM generate_series(1, $1::integer) AS n
"""
_FILL_LEGS = """
INSERT INTO transaction_legs (
    transaction_id, position, wallet_id, currency, amount, is_external, sequence
)
SELECT id, leg, $1, 'USD', 1, false, source_sequence
FROM transactions
CROSS JOIN generate_series(1, 3) AS leg
"""
_READ = """
SELECT
    pg_stat_force_next_flush(),
    (
        SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables
        WHERE relname IN ('transactions', 'transaction_legs', 'wallets', 'entries')
    ) AS rows
"""


@pytest.fixture(scope="module")
async def pool(stack: Stack, template: str) -> AsyncIterator[Pool]:
    url = await create_database(stack, template)
    connection = await connect(url, name="test")
    await connection.execute(_FILL_TRANSACTIONS, ROWS, _HOT)
    await connection.execute(_FILL_ENTRIES)
    await connection.execute(_FILL_LEGS, _IN_JOURNALS)
    await connection.execute(_FILL_WALLETS, ROWS)
    await connection.execute(
        "INSERT INTO wallets (id, owner_id, currency) VALUES ($1, 'hot', 'USD')", _HOT
    )
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    async with create_pool(
        url, name="test", size=1, statement_timeout_s=30, session=dict(KEYED_SESSION)
    ) as opened:
        yield opened
    await drop_database(stack, url)


async def _rows_read(pool: Pool) -> int:
    await pool.fetchrow(_READ)
    await pool.execute("SELECT pg_stat_clear_snapshot()")
    row = await pool.fetchrow(_READ)
    return int(row["rows"]) if row else 0


async def test_no_filter_reads_more_than_its_bound(pool: Pool) -> None:
    store, wallets = TransactionStore(pool, lists=pool), WalletStore(pool, lists=pool)
    filters = [
        TransactionFilter(wallet_id, status, kind, UUID(int=0))
        for wallet_id in (None, _HOT, _IN_JOURNALS, uuid4())
        for status in (None, *TransactionStatus)
        for kind in (None, TransactionType.DEPOSIT)
    ]
    for wanted in filters:
        before = await _rows_read(pool)
        await store.list_page(wanted, before=_LAST, limit=50)
        # Both sides of a wallet are examined, each up to the bound; a journal by each leg.
        examined = 4 if wanted.wallet_id == _IN_JOURNALS else 2
        assert await _rows_read(pool) - before <= examined * EXAMINED_MAX + 100, wanted

    for wallet_id in (None, _HOT):
        before = await _rows_read(pool)
        wanted = TransactionFilter(wallet_id, None, None, UUID(int=0), MetadataMember("order", "1"))
        window = await store.list_page(wanted, before=_LAST, limit=50)
        assert (window.matches, window.next_start is None) == ([], False)
        # Each that is examined is looked up once more.
        assert await _rows_read(pool) - before <= 3 * EXAMINED_MAX + 100, wanted

    for owner in (None, "owner", "nobody"):
        before = await _rows_read(pool)
        await wallets.list_page(
            WalletFilter(owner, "EUR", WalletStatus.CLOSED, RequestedKind.INTERNAL),
            after=UUID(int=0),
            limit=50,
        )
        assert await _rows_read(pool) - before <= EXAMINED_MAX + 100, owner

    before = await _rows_read(pool)
    await wallets.list_entries(
        _HOT, EntryFilter(None, None, TransactionType.DEPOSIT), before=None, limit=50
    )
    # Each examined entry is looked up with its transaction, for the type.
    assert await _rows_read(pool) - before <= 2 * EXAMINED_MAX + 100


async def test_a_filter_that_nothing_passes_still_comes_to_the_end(pool: Pool) -> None:
    store = TransactionStore(pool, lists=pool)
    wanted = TransactionFilter(None, None, TransactionType.DEPOSIT, UUID(int=0))
    start, pages = _LAST, 0
    while True:
        window = await store.list_page(wanted, before=start, limit=50)
        pages += 1
        assert window.matches == []
        if window.next_start is None:
            break
        start = window.next_start

    assert pages == ROWS // EXAMINED_MAX + 1


async def test_a_plain_page_reads_little_more_than_itself(pool: Pool) -> None:
    before = await _rows_read(pool)
    window = await TransactionStore(pool, lists=pool).list_page(
        TransactionFilter(None, None, None, UUID(int=0)), before=_LAST, limit=50
    )

    assert len(window.matches) == 50
    assert await _rows_read(pool) - before <= 250


async def test_a_balance_at_a_time_reads_a_logarithm_of_the_history(pool: Pool) -> None:
    wallets = WalletStore(pool, lists=pool)
    now = await wallets.read_clock()
    before = await _rows_read(pool)
    await wallets.read_balance(_HOT, now)

    assert await _rows_read(pool) - before <= 60


@pytest.mark.parametrize(
    "holder",
    [Holder("nobody"), Holder("maker"), Holder("user:1", "nobody"), Holder("user:2", "owner")],
    ids=str,
)
async def test_lists_of_what_is_one_s_own_read_no_more_than_their_bound(
    pool: Pool, holder: Holder
) -> None:
    store, wallets = TransactionStore(pool, lists=pool), WalletStore(pool, lists=pool)
    for status, kind in product((None, TransactionStatus.FAILED), (None, TransactionType.DEPOSIT)):
        before = await _rows_read(pool)
        wanted = TransactionFilter(None, status, kind, UUID(int=0))
        await store.list_seen(wanted, holder, before=_LAST, limit=50)
        # Each is examined, looked up, and so are its two wallets.
        assert await _rows_read(pool) - before <= 4 * EXAMINED_MAX + 100, wanted

    for owner in (None, "owner", "nobody"):
        before = await _rows_read(pool)
        await wallets.list_page(
            WalletFilter(owner, "EUR", WalletStatus.CLOSED, RequestedKind.INTERNAL),
            after=UUID(int=0),
            limit=50,
            holder=holder,
        )
        # Made, owned and granted ones are three walks, and each wallet is looked up.
        assert await _rows_read(pool) - before <= 4 * EXAMINED_MAX + 100, owner


async def test_the_few_wallets_of_a_person_are_walked_by_their_index(pool: Pool) -> None:
    store = TransactionStore(pool, lists=pool)
    before = await _rows_read(pool)
    window = await store.list_seen(
        TransactionFilter(None, None, None, UUID(int=0)),
        Holder("user:3", "hot"),
        before=_LAST,
        limit=50,
    )

    assert len(window.matches) == 50
    assert await _rows_read(pool) - before <= 1000
