"""`ackledger export`: the posted books, the same text each time, and nothing that is not posted."""

import asyncio
import csv
import io
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from contracts.money import register_asset
from tests.conftest import Connection
from tests.integration.command_line.calling import BOUND_S, Called, ackledger, environment_of
from tests.integration.command_line.dated_books import DatedBook
from tests.integration.verification.books import write_books
from tests.integration.verification.terms import write_terms

pytestmark = pytest.mark.long

FORMATS = ("hledger", "ledger", "beancount", "csv", "jsonl")
TEXT = 'of "many",\nlines; a | b\ttab = \\ 漢字'


def at(day: int, hour: int = 12) -> datetime:
    """Return a moment of March 2026."""
    return datetime(2026, 3, day, hour, 30, tzinfo=UTC)


class Exports:
    """Calls of the command on one database."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self._directory = directory
        self._variables = {"DATABASE_URL": database_url}

    async def call(self, *arguments: str) -> Called:
        """Call it."""
        return await ackledger(
            "export", *arguments, directory=self._directory, variables=self._variables
        )

    async def text(self, form: str, *arguments: str) -> str:
        """Return what it writes to standard output."""
        called = await self.call("--format", form, *arguments)
        assert called.code == 0, called.err
        return called.out

    async def records(self, *arguments: str) -> dict[str, list[dict[str, Any]]]:
        """Return the lines of JSON by their kind."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in (await self.text("jsonl", *arguments)).splitlines():
            record = orjson.loads(line)
            found[record["record"]].append(record)
        return found


@pytest.fixture
def export(directory: Path, database_url: str) -> Exports:
    """The command on a fresh migrated database."""
    return Exports(directory, database_url)


@pytest.fixture
async def book(database: Connection) -> DatedBook:
    """Five transactions on three days, in four currencies, one of them withdrawn."""
    await database.execute("INSERT INTO assets VALUES ('POINTS8', 8, now(), 'test', now())")
    register_asset("POINTS8", 8, is_usable=True)
    book = DatedBook(database)
    world = await book.wallet("USD", kind="external")
    rich, poor = await book.wallet("USD", owner="some; one"), await book.wallet("USD")
    house = await book.wallet("POINTS8", kind="internal")
    points = await book.wallet("POINTS8")
    await book.post(at(1), (world, -10_000), (rich, 10_000), type_="deposit")
    await book.post(at(1, 23), (rich, -1), (poor, 1), description=TEXT)
    await book.post(at(3), (rich, -2_000), (poor, 2_000))
    await book.post(
        *(at(3, 13), (rich, -100), (poor, 100), (house, -150), (points, 150)), type_="journal"
    )
    levs, other_levs = await book.wallet("BGN"), await book.wallet("BGN")
    await book.post(at(4), (levs, -5), (other_levs, 5))
    return book


def _sums(records: Mapping[str, list[dict[str, Any]]]) -> dict[str, int]:
    """Add up openings and legs by wallet, in smallest units, without those that come to 0."""
    sums: Counter[str] = Counter()
    for one in records["opening"]:
        sums[one["wallet_id"]] += _minor(one["balance"])
    for one in records["transaction"]:
        for leg in one["legs"]:
            sums[leg["wallet_id"]] += _minor(leg["amount"])
    return {wallet: total for wallet, total in sums.items() if total}


def _minor(amount: str) -> int:
    return int(amount.replace(".", ""))


def _closings(records: Mapping[str, list[dict[str, Any]]]) -> dict[str, int]:
    last = {one["wallet_id"]: _minor(one["balance"]) for one in records["closing"]}
    return {wallet: total for wallet, total in last.items() if total}


@pytest.mark.parametrize("form", FORMATS)
async def test_the_same_book_gives_the_same_text(
    export: Exports, database: Connection, form: str
) -> None:
    await write_books(database, transactions=300, wallets=10)
    await write_terms(database)

    assert await export.text(form) == await export.text(form)


async def test_it_has_what_is_posted_and_its_legs_alone(
    export: Exports, database: Connection
) -> None:
    await write_books(database, transactions=50, wallets=5)
    await write_terms(database)
    records = await export.records()

    rows = await database.fetch(
        "SELECT transaction_id, wallet_id, sequence, amount FROM posted_legs"
    )
    posted = sorted((str(row[0]), str(row[1]), row[2], row[3]) for row in rows)
    exported = sorted(
        (one["transaction_id"], leg["wallet_id"], leg["sequence"], _minor(leg["amount"]))
        for one in records["transaction"]
        for leg in one["legs"]
    )
    assert exported == posted
    assert {one["type"] for one in records["transaction"]} == {
        "deposit",
        "transfer",
        "capture",
        "journal",
        "reversal",
    }


async def test_balances_are_those_of_the_wallets(export: Exports, book: DatedBook) -> None:
    records = await export.records()

    assert _sums(records) == _closings(records)
    assert _closings(records) == {
        str(wallet_id): wallet.balance for wallet_id, wallet in book.wallets.items()
    }


@pytest.mark.parametrize(
    ("first", "end"), [("2026-03-01", "2026-03-03"), ("2026-03-02", "2026-03-05")]
)
async def test_a_span_begins_with_what_was_before_it_and_ends_with_what_is_after(
    export: Exports, book: DatedBook, first: str, end: str
) -> None:
    records = await export.records("--from", first, "--to", end)
    before = await export.records("--to", first)
    until = await export.records("--to", end)

    assert {one["date"] for one in records["transaction"]} <= {
        one["date"] for one in until["transaction"]
    } - {one["date"] for one in before["transaction"]}
    assert _sums(records) == _closings(records) == _sums(until) == _closings(until)
    opened = {one["wallet_id"]: _minor(one["balance"]) for one in records["opening"]}
    assert opened == _sums(before)
    assert book.posted == 5


async def test_openings_of_each_currency_sum_to_zero(export: Exports, book: DatedBook) -> None:
    records = await export.records("--from", "2026-03-04")

    sums: Counter[str] = Counter()
    for one in records["opening"]:
        sums[one["currency"]] += _minor(one["balance"])
        assert one["date"] == "2026-03-03"
    assert sums == {"USD": 0, "POINTS8": 0}
    assert len(records["wallet"]) == len(book.wallets)


async def test_each_day_ends_with_the_wallets_that_moved(export: Exports, book: DatedBook) -> None:
    records = await export.records()

    ends = Counter(one["date"] for one in records["closing"])
    assert ends == {"2026-03-01": 3, "2026-03-03": 4, "2026-03-04": 2 + len(book.wallets)}


async def test_a_clock_that_was_set_back_over_midnight_is_no_difference(
    export: Exports, database: Connection
) -> None:
    book = DatedBook(database)
    one, other = await book.wallet("USD"), await book.wallet("USD")
    await book.post(at(2, 0), (one, -5), (other, 5))
    await book.post(at(1, 23), (one, -7), (other, 7))
    await book.post(at(3), (one, -1), (other, 1))
    records = await export.records()

    ends = [(end["date"], end["balance"]) for end in records["closing"]]
    assert Counter(ends)["2026-03-02", "0.12"] + Counter(ends)["2026-03-01", "0.07"] == 0
    assert ("2026-03-03", "0.13") in ends
    assert _sums(records) == _closings(records)


async def test_one_currency_is_a_book_of_its_own(export: Exports, book: DatedBook) -> None:
    records = await export.records("--currency", "POINTS8")

    assert {one["code"] for one in records["asset"]} == {"POINTS8"}
    [journal] = records["transaction"]
    assert [leg["amount"] for leg in journal["legs"]] == ["-0.00000150", "0.00000150"]
    assert {one["currency"] for one in records["wallet"]} == {"POINTS8"}
    assert book.posted == 5


async def test_csv_and_json_keep_every_text_as_it_was_sent(
    export: Exports, book: DatedBook
) -> None:
    rows = list(csv.DictReader(io.StringIO(await export.text("csv"), newline="")))
    records = await export.records()

    legs = [row for row in rows if row["record"] == "leg"]
    assert [row["description"] for row in legs][2:4] == [TEXT, TEXT]
    assert records["transaction"][1]["description"] == TEXT
    assert [row["amount"] for row in legs] == [
        leg["amount"] for one in records["transaction"] for leg in one["legs"]
    ]
    assert {row["record"] for row in rows} == {"leg", "closing"}
    assert book.posted == 5


async def test_no_text_is_taken_for_another(export: Exports, database: Connection) -> None:
    book = DatedBook(database)
    one, other = await book.wallet("USD"), await book.wallet("USD")
    texts = [
        None,
        "",
        "+",
        "\\N",
        "\\",
        "\\n",
        "\t",
        "a\rb\nc",
        "\x0b\x0c\x08\x01",
        "\\\\t'\"",
        "é",
    ]
    for hour, text in enumerate(texts):
        await book.post(at(1, hour), (one, -1), (other, 1), description=text)
    records = await export.records()

    assert [one["description"] for one in records["transaction"]] == texts


@pytest.mark.parametrize("form", ["hledger", "ledger", "beancount"])
async def test_no_name_of_people_and_no_line_break_shapes_a_journal(
    export: Exports, book: DatedBook, form: str
) -> None:
    text = await export.text(form)

    assert "some one" in text
    [line] = [line for line in text.splitlines() if "漢字" in line]
    assert "lines a b tab =" in line
    for wallet_id, wallet in book.wallets.items():
        assert f"{wallet_id}" in text or f"Equity:External:{wallet.currency}" in text


async def test_a_file_is_whole_or_not_there(
    export: Exports, book: DatedBook, tmp_path: Path
) -> None:
    target = tmp_path / "book.journal"
    written = await export.call("--format", "hledger", "--output", str(target))
    nowhere = await export.call("--format", "hledger", "--output", str(tmp_path / "no" / "book"))
    refused = await export.call(
        "--format", "hledger", "--output", str(tmp_path / "none"), "--currency", "XYZ1"
    )

    assert (written.code, written.out) == (0, "")
    assert "exported 5 transactions of" in written.err
    assert target.read_text(encoding="utf-8") == await export.text("hledger")
    assert target.stat().st_mode & 0o077 == 0
    assert (nowhere.code, refused.code) == (2, 2)
    for name in ("none", "none.part", "book.journal.part"):
        assert not (tmp_path / name).exists()
    assert book.posted == 5


# Journals without a wallet's entries: what they weigh is all that matters.
_SIXTY_THOUSAND_MORE = """
INSERT INTO transactions (
    id, submitter, idempotency_key, fingerprint, channel, type, status, description, has_terms,
    created_at, completed_at
)
SELECT
    uuid_v7(clock_us(), n % 1000), 'more', n::text, '\\x00', 'http', 'journal', 'COMPLETED',
    repeat('x', 200), true, now(), now()
FROM generate_series(1, 60000) AS n;

INSERT INTO transaction_legs
SELECT t.id, side, w.id, w.currency, 2 * side - 3, false, 1
FROM transactions AS t, generate_series(1, 2) AS side, (SELECT * FROM wallets LIMIT 1) AS w
WHERE t.submitter = 'more';
"""
# VmHWM, not ru_maxrss: the latter has what the test's own process had when it began this one.
_MEASURED = """
import os, re, sys
from pathlib import Path
from cli.command_line import run_command_line
code = run_command_line(sys.argv[1:], os.environ)
peak = re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())
print(int(peak[1]) // 1024, file=sys.stderr)
sys.exit(code)
"""


async def _peak_mib(directory: Path, database_url: str) -> int:
    """Return the most memory that an export of the whole book had, in MiB."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _MEASURED, "export", "--format", "jsonl"),
        env=environment_of(directory, {"DATABASE_URL": database_url}),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(BOUND_S):
        _, words = await process.communicate()
    assert process.returncode == 0, words
    return int(words.split()[-1])


async def test_memory_does_not_grow_with_the_book(
    database: Connection, database_url: str, directory: Path
) -> None:
    await write_books(database, transactions=3_000, wallets=1_500)
    small = await _peak_mib(directory, database_url)
    await database.execute(_SIXTY_THOUSAND_MORE)
    large = await _peak_mib(directory, database_url)

    assert large < small + 10
    assert large < 150


async def test_an_empty_book_is_a_book(export: Exports) -> None:
    for form in FORMATS:
        assert "TXN-" not in await export.text(form)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "quicken"), "expected one of hledger|ledger|beancount|csv|jsonl"),
        (("--format", "csv", "--from", "2026-03-02", "--to", "2026-03-02"), "is not before --to"),
        (("--format", "csv", "--from", "yesterday"), "--from"),
        (("--format", "csv", "--currency", "XYZ1"), "'XYZ1' is not an ISO 4217 currency code"),
        ((), "--format"),
    ],
)
async def test_wrong_usage_is_named(
    export: Exports, arguments: tuple[str, ...], words: str
) -> None:
    called = await export.call(*arguments)

    assert called.code == 2
    assert words in called.err
