"""The rivals: what is started by name is there, and those that post in batches post the same."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from runtime.postgres.queries import load_queries
from tests.conftest import Connection
from tools.bench.contestants import BALANCE_MINOR, CONTESTANTS, Contestant, disagreements
from tools.bench.rivals.aio_pika_asyncpg_batched import post_batch, settle
from tools.bench.rivals.posting import post_with_asyncpg
from tools.bench.trees import SAMPLERS

_ROOT: Final = Path(__file__).parents[3]
_SCHEMA: Final = _ROOT / "tools/bench/rivals/schema.sql"
_WALLETS: Final = [UUID(int=number) for number in range(1, 9)]
_AT_FIRST: Final = 300
_TRANSACTIONS: Final = """
    SELECT id, idempotency_key, source_wallet_id, destination_wallet_id, amount, status
    FROM rival_transactions ORDER BY id
"""
_SETTLED: Final = ("rival_wallets", "rival_entries", "rival_transactions")

Asked = dict[str, Any]
Pool = Any
"""asyncpg's: its types take parameters in its stubs alone."""


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda one: one.name)
def test_the_program_of_a_rival_is_in_the_checkout(contestant: Contestant) -> None:
    words = contestant.rival.arguments(contestant.tuning)
    (program,) = (word for word in words if "." in word and not word.startswith("-"))

    found = find_spec(program)

    assert found is not None
    assert Path(str(found.origin)).is_relative_to(_ROOT)


def test_this_checkout_has_its_sampler_in_the_first_place_that_is_looked_at() -> None:
    assert (_ROOT / SAMPLERS[0]).is_file()


@pytest.fixture
async def books(empty_database_url: str) -> AsyncIterator[Connection]:
    """The rivals' tables, without a single wallet."""
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(_SCHEMA.read_text(encoding="utf-8"))
    yield connection
    await connection.close()


async def _begin_anew(books: Connection, balance: int = _AT_FIRST) -> None:
    await books.execute(f"TRUNCATE {', '.join(_SETTLED)}")
    wallets = [(one, balance) for one in _WALLETS]
    await books.executemany("INSERT INTO rival_wallets (id, balance) VALUES ($1, $2)", wallets)


def _asked(source: UUID, destination: UUID, amount: int) -> Asked:
    return {
        "id": str(uuid4()),
        "key": str(uuid4()),
        "source": str(source),
        "destination": str(destination),
        "amount": amount,
    }


def _transfers(rng: random.Random, number: int) -> Iterator[Asked]:
    """Yield transfers many of which are not covered, some of them under a key that was used."""
    seen: list[Asked] = []
    for _ in range(number):
        if seen and rng.random() < 0.1:
            yield rng.choice(seen)
            continue
        source, destination = rng.sample(_WALLETS, 2)
        seen.append(_asked(source, destination, rng.randint(1, 250)))
        yield seen[-1]


async def _state(books: Connection) -> list[list[tuple[Any, ...]]]:
    questions = (
        "SELECT * FROM rival_wallets ORDER BY id",
        "SELECT * FROM rival_entries ORDER BY wallet_id, sequence",
        _TRANSACTIONS,
    )
    return [[tuple(row) for row in await books.fetch(one)] for one in questions]


async def _post(books: Connection, transfers: Sequence[Asked], *, batch: int) -> None:
    for start in range(0, len(transfers), batch):
        async with books.transaction():
            await post_batch(books, transfers[start : start + batch])


@pytest.mark.parametrize("batch", [1, 7, 500])
async def test_a_batch_keeps_the_books_that_one_message_after_the_other_keeps(
    books: Connection, batch: int
) -> None:
    transfers = list(_transfers(random.Random(batch), 300))
    await _begin_anew(books)
    for one in transfers:
        async with books.transaction():
            await post_with_asyncpg(books, one)  # type: ignore[arg-type]  # a pool's in the rival
    expected = await _state(books)
    await _begin_anew(books)

    await _post(books, transfers, batch=batch)

    assert await _state(books) == expected
    statuses = {row[-1] for row in expected[-1]}
    assert statuses == {"COMPLETED", "FAILED"}


async def test_a_batch_that_comes_again_changes_nothing(books: Connection) -> None:
    transfers = list(_transfers(random.Random(1), 100))
    await _begin_anew(books)
    await _post(books, transfers, batch=100)
    expected = await _state(books)

    await _post(books, transfers, batch=30)

    assert await _state(books) == expected


async def test_what_a_batch_was_paid_it_can_spend_in_the_same_batch(books: Connection) -> None:
    first, second, third = _WALLETS[:3]
    await _begin_anew(books, balance=100)
    await _post(
        books,
        [_asked(first, second, 100), _asked(second, third, 200), _asked(first, third, 1)],
        batch=3,
    )

    rows = await books.fetch("SELECT status FROM rival_transactions ORDER BY amount")
    assert [row["status"] for row in rows] == ["FAILED", "COMPLETED", "COMPLETED"]


async def test_all_of_a_batch_ends_at_one_moment_so_that_the_first_is_left_out_whole(
    books: Connection,
) -> None:
    await _begin_anew(books, balance=10_000)
    await _post(books, [_asked(_WALLETS[0], _WALLETS[1], 1) for _ in range(20)], batch=5)

    [row] = await books.fetch(load_queries("tools.bench")["measure_rival"])
    assert (row["transactions"], row["after_first"]) == (20, 15)


class _Delivered:
    """A message in a consumer's hands, and what the broker was told about it."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.told: list[str] = []

    async def ack(self, *, multiple: bool) -> None:
        self.told.append("ack of all until here" if multiple else "ack")

    async def reject(self) -> None:
        self.told.append("reject")


def _delivered(transfers: Sequence[Asked]) -> list[_Delivered]:
    return [_Delivered(orjson.dumps(one)) for one in transfers]


@pytest.fixture
async def pool(books: Connection, empty_database_url: str) -> AsyncIterator[Pool]:
    """Connections to the books, which hold wallets that can pay."""
    await _begin_anew(books, balance=BALANCE_MINOR)
    async with asyncpg.create_pool(empty_database_url, min_size=2, max_size=2) as pool:
        yield pool


async def test_consumers_that_are_delivered_the_same_at_once_post_it_once(
    books: Connection, pool: Pool
) -> None:
    transfers = list(_transfers(random.Random(2), 200))
    batches = [_delivered(transfers), _delivered(transfers[::-1])]

    await asyncio.gather(*(settle(pool, batch) for batch in batches))

    assert await disagreements(books) == []
    keys = await books.fetch("SELECT idempotency_key AS key FROM rival_transactions")
    assert {row["key"] for row in keys} == {one["key"] for one in transfers}
    assert [batch[-1].told for batch in batches] == [["ack of all until here"]] * 2


async def test_what_cannot_be_posted_is_rejected_by_itself_and_its_neighbours_are_posted(
    books: Connection, pool: Pool
) -> None:
    transfers = list(_transfers(random.Random(3), 20))
    batch = _delivered(transfers)
    batch[4] = _Delivered(b"no JSON")
    batch[11] = _Delivered(orjson.dumps(_asked(UUID(int=404), _WALLETS[0], 1)))

    await settle(pool, batch)

    rejected = [at for at, one in enumerate(batch) if one.told == ["reject"]]
    assert rejected == [4, 11]
    assert batch[-1].told == ["ack of all until here"]
    posted = await books.fetch("SELECT idempotency_key AS key FROM rival_transactions")
    kept = [one["key"] for at, one in enumerate(transfers) if at not in rejected]
    assert {row["key"] for row in posted} == set(kept)
    assert await disagreements(books) == []


_HARM: Final = {
    "balance is not the sum": "UPDATE rival_wallets SET balance = balance + 1 WHERE id = $1",
    "sequence with a gap": "UPDATE rival_entries SET sequence = sequence + 9 WHERE wallet_id = $1",
    "balance_after is not the sum": (
        "UPDATE rival_entries SET balance_after = balance_after + 1 WHERE wallet_id = $1"
    ),
    "entry without a transaction": (
        "DELETE FROM rival_transactions WHERE source_wallet_id = $1 AND status = 'COMPLETED'"
    ),
    "entries do not fit the status FAILED": (
        "UPDATE rival_transactions SET status = 'FAILED' WHERE source_wallet_id = $1"
    ),
    "entries do not fit the status PENDING": (
        "UPDATE rival_transactions SET status = 'PENDING' WHERE source_wallet_id = $1"
    ),
    "entries do not fit the status COMPLETED": (
        "DELETE FROM rival_entries WHERE wallet_id = $1 AND sequence = 1"
    ),
    "overdrawn": (
        "UPDATE rival_entries SET balance_after = -1 WHERE wallet_id = $1 AND amount < 0"
    ),
}


@pytest.mark.parametrize("finding", _HARM)
async def test_books_that_do_not_fit_are_found(books: Connection, finding: str) -> None:
    await _begin_anew(books, balance=BALANCE_MINOR)
    await _post(
        books, [_asked(_WALLETS[0], _WALLETS[1], amount) for amount in range(1, 7)], batch=4
    )
    assert await disagreements(books) == []

    await books.execute(_HARM[finding], _WALLETS[0])

    found = await disagreements(books)
    assert any(one.startswith(finding) for one in found), found


_UNGATHERED = """
from ingress.reads.transactions import TransactionStore
from tools.bench.rivals.ungathered_ingress import OneByOne, ungather

ungather()
reads = TransactionStore(None, lists=None)._reads._reads
raise SystemExit(not isinstance(reads, OneByOne))
"""


def test_the_ungathered_ingress_gathers_no_reads() -> None:
    # In a process of its own: it changes a module.
    assert subprocess.run([sys.executable, "-c", _UNGATHERED], check=False).returncode == 0
