"""Transactions of a real bank end as a model of a few lines says: 49,102, or the first of them."""

import csv
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from cli.clients.addresses import Addresses
from runtime.postgres.pool import connect
from tests.conftest import Connection, Doors
from tests.end_to_end.replay.conftest import Verified, replay_file

pytestmark = pytest.mark.long

Summary = dict[str, Any]
Replay = Callable[..., Awaitable[Summary]]

ROWS = 49_102
OVER_HTTP = 20_000
"""The file's first rows: all of it goes over AMQP, where that takes a third of the time."""
AGAIN = 12_000
"""So many rows are sent a second time: what holds for these holds for all."""
AMQP_PREFIX = "amqp-first-"
"""The keys of a world of its own: other transactions, other wallets."""

WALLET_BALANCES = """
    SELECT w.owner_id, w.balance
    FROM wallets AS w
    INNER JOIN wallet_requests AS r ON r.wallet_id = w.id
    WHERE starts_with(r.idempotency_key, $1)
"""


@dataclass
class Model:
    """No overdraft, in file order: what is the result? Independent of all our code."""

    refused: int = 0
    minor: dict[str, int] = field(default_factory=dict)

    def play(self, path: Path, *, rows: int) -> "Model":
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in islice(csv.DictReader(lines), rows):
                balance = self.minor.setdefault(row["account_id"], 0)
                amount = int(Decimal(row["amount"]) * 100)
                change = amount if row["type"] == "PRIJEM" else -amount
                if balance + change < 0:
                    self.refused += 1
                else:
                    self.minor[row["account_id"]] = balance + change
        return self


@pytest.fixture(scope="module")
def replay(bank_file: Path, addresses: Addresses) -> Replay:
    """The command on the bank file; returns the summary that it prints."""

    async def run(via: str, *options: str) -> Summary:
        arguments = (str(bank_file), "--preset", "berka", "--via", via, "--wait", "--json")
        code, output, errors = await replay_file(*arguments, *options, addresses=addresses)
        summary: Summary = json.loads(output)
        assert code == (1 if summary["refused"] else 0), errors
        return summary

    return run


@pytest.fixture(scope="module")
async def over_http(replay: Replay) -> Summary:
    """The file's first rows, once, over HTTP."""
    return await replay("http", "--limit", str(OVER_HTTP))


@pytest.fixture(scope="module")
async def over_amqp(replay: Replay) -> Summary:
    """The file, once, over AMQP, under keys and into wallets of its own."""
    return await replay("amqp", "--key-prefix", AMQP_PREFIX)


@pytest.fixture
async def books(doors: Doors) -> AsyncIterator[Connection]:
    connection = await connect(doors.database_url, name="test")
    yield connection
    await connection.close()


async def balances(books: Connection, prefix: str) -> dict[str, int]:
    rows = await books.fetch(WALLET_BALANCES, prefix)
    return {row["owner_id"]: row["balance"] for row in rows}


async def state(books: Connection) -> tuple[int, int, str]:
    """Everything about money, in three numbers: one cent more and they differ."""
    row = await books.fetchrow(
        """
        SELECT
            (SELECT count(*) FROM transactions) AS transactions,
            (SELECT count(*) FROM entries) AS entries,
            (SELECT md5(string_agg(id::text || balance || version, '' ORDER BY id)) FROM wallets)
                AS wallets
        """
    )
    assert row is not None
    return row["transactions"], row["entries"], row["wallets"]


def assert_ends_as(summary: Summary, model: Model, *, rows: int) -> None:
    assert (summary["rows"], summary["invalid"]) == (rows, 0)
    assert (summary["new"], summary["replays"]) == (rows, 0)
    assert summary["refused"] == {"insufficient_funds": model.refused}
    assert summary["completed"] == rows - model.refused
    assert model.refused > 0, "a file without a refusal would show less"


def assert_changed_nothing(summary: Summary) -> None:
    assert (summary["rows"], summary["new"], summary["replays"]) == (AGAIN, 0, AGAIN)
    assert (summary["problems"], summary["refused"]) == ({}, {})


async def test_over_http_refusals_and_balances_are_the_model_s(
    over_http: Summary, bank_file: Path, books: Connection
) -> None:
    model = Model().play(bank_file, rows=OVER_HTTP)

    assert_ends_as(over_http, model, rows=OVER_HTTP)
    assert await balances(books, "berka-wallet/CZK/") == model.minor


async def test_over_amqp_refusals_and_balances_are_the_model_s(
    over_amqp: Summary, bank_file: Path, books: Connection
) -> None:
    model = Model().play(bank_file, rows=ROWS)

    assert_ends_as(over_amqp, model, rows=ROWS)
    assert await balances(books, f"{AMQP_PREFIX}wallet/CZK/") == model.minor


@pytest.mark.parametrize("via", ["http", "amqp"])
async def test_what_came_over_http_comes_again_through_either_door_and_changes_nothing(
    via: str, over_http: Summary, replay: Replay, books: Connection
) -> None:
    assert over_http["new"] == OVER_HTTP
    before = await state(books)

    assert_changed_nothing(await replay(via, "--limit", str(AGAIN)))

    assert await state(books) == before


async def test_what_came_over_amqp_comes_again_over_http_and_changes_nothing(
    over_amqp: Summary, replay: Replay, books: Connection
) -> None:
    assert over_amqp["new"] == ROWS
    before = await state(books)

    again = ("--key-prefix", AMQP_PREFIX, "--batch", "1000", "--limit", str(AGAIN))
    assert_changed_nothing(await replay("http", *again))

    assert await state(books) == before


async def test_the_books_balance_after_all_of_it(
    over_http: Summary, over_amqp: Summary, verified: Verified
) -> None:
    assert (over_http["new"], over_amqp["new"]) == (OVER_HTTP, ROWS)

    report = await verified()

    assert report.clean, report.findings
    assert report.transactions == OVER_HTTP + ROWS
