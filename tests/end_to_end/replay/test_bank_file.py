"""49,102 transactions of a real bank end as a model of a few lines says, through either door."""

import csv
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ops.clients.addresses import Addresses
from runtime.database import connect
from tests.conftest import Connection, Doors
from tests.end_to_end.replay.conftest import Verified, replay_file

Summary = dict[str, Any]
Replay = Callable[..., Awaitable[Summary]]

ROWS = 49_102
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

    def play(self, path: Path) -> "Model":
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                balance = self.minor.setdefault(row["account_id"], 0)
                amount = int(Decimal(row["amount"]) * 100)
                change = amount if row["type"] == "PRIJEM" else -amount
                if balance + change < 0:
                    self.refused += 1
                else:
                    self.minor[row["account_id"]] = balance + change
        return self


@pytest.fixture(scope="module")
def model(bank_file: Path) -> Model:
    return Model().play(bank_file)


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
    """The file, once, over HTTP."""
    return await replay("http")


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


def assert_ends_as(summary: Summary, model: Model) -> None:
    assert (summary["rows"], summary["invalid"]) == (ROWS, 0)
    assert (summary["new"], summary["replays"]) == (ROWS, 0)
    assert summary["refused"] == {"insufficient_funds": model.refused}
    assert summary["completed"] == ROWS - model.refused
    assert model.refused > 0, "a file without a refusal would show less"


def assert_changed_nothing(summary: Summary) -> None:
    assert (summary["rows"], summary["new"], summary["replays"]) == (AGAIN, 0, AGAIN)
    assert (summary["problems"], summary["refused"]) == ({}, {})


async def test_over_http_refusals_and_balances_are_the_model_s(
    over_http: Summary, model: Model, books: Connection
) -> None:
    assert_ends_as(over_http, model)
    assert await balances(books, "berka-wallet/CZK/") == model.minor


async def test_over_amqp_refusals_and_balances_are_the_model_s(
    over_amqp: Summary, model: Model, books: Connection
) -> None:
    assert_ends_as(over_amqp, model)
    assert await balances(books, f"{AMQP_PREFIX}wallet/CZK/") == model.minor


@pytest.mark.parametrize("via", ["http", "amqp"])
async def test_what_came_over_http_comes_again_through_either_door_and_changes_nothing(
    via: str, over_http: Summary, replay: Replay, books: Connection
) -> None:
    assert over_http["new"] == ROWS
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
    assert (over_http["new"], over_amqp["new"]) == (ROWS, ROWS)

    report = await verified()

    assert report.clean, report.findings
    assert report.transactions == 2 * ROWS
