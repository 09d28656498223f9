"""Books that hledger, ledger and beancount recompute: each rule of writing, judged by them."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cli.export.book import Balance, BookAsset, BookLeg, BookTransaction, BookWallet
from cli.export.exporting import ExportFormat, writer_of
from contracts.money import exponent_of, register_asset
from tools.audit.programs import Program, Recomputed
from tools.audit.tampering import TAMPERINGS

Programs = dict[ExportFormat, Program]

JOURNALS = (ExportFormat.HLEDGER, ExportFormat.LEDGER)
ALL = (*JOURNALS, ExportFormat.BEANCOUNT)
# Of every number of decimals, of every shape of code, and one that left ISO 4217.
CODES = ("JPY", "USD", "KWD", "CLF", "BGN", "POINTS8", "1UP", "TRUE", "FALSE", "NULL", "LOYAL")
REGISTERED = {"POINTS8": 8, "1UP": 12, "TRUE": 0, "FALSE": 1, "NULL": 5, "LOYAL": 8, "123": 2}
MOST = 2**63 - 1


@pytest.fixture(autouse=True, scope="module")
def _assets() -> None:
    for code, exponent in REGISTERED.items():
        register_asset(code, exponent, is_usable=True)


def _day_of(transaction: BookTransaction) -> date:
    return date.fromisoformat(transaction.completed_at[:10])


class Paper:
    """A book on paper: wallets 2n and 2n+1 are of the n-th currency; ids begin with a letter."""

    def __init__(self, *codes: str) -> None:
        self.codes = codes
        self.transactions: list[BookTransaction] = []

    def wallet(self, number: int) -> str:
        """Return a wallet's id."""
        return str(UUID(int=(0xA << 124) + number))

    def move(self, *amounts: tuple[int, int], description: str = "", day: int = 1) -> None:
        """Post legs: of each the number of the wallet, and smallest units."""
        number = len(self.transactions)
        legs: Sequence[BookLeg] = [
            (self.wallet(wallet), self.codes[wallet // 2], minor, "1") for wallet, minor in amounts
        ]
        moment = f"2026-02-{day:02d}T12:00:00.{number:06d}Z"
        self.transactions.append(
            BookTransaction(
                *(str(UUID(int=number + 1)), "transfer", moment, "s", "k", None, description, legs)
            )
        )

    def balances(self, until: date) -> list[Balance]:
        """Return what every wallet has at the end of a day."""
        sums = {(self.wallet(n), self.codes[n // 2]): 0 for n in range(2 * len(self.codes))}
        for one in self.transactions:
            if _day_of(one) <= until:
                for wallet, currency, minor, _ in one.legs:
                    sums[wallet, currency] += minor
        return [Balance(*key, minor) for key, minor in sums.items()]

    def text(self, chosen: ExportFormat, *, off_by: int = 0) -> str:
        """Return the file; `off_by` is added to the last balance that it asserts."""
        writer = writer_of(chosen, {})
        assets = [BookAsset(code, exponent_of(code)) for code in sorted(self.codes)]
        text = writer.heading(assets)
        for number in range(2 * len(self.codes)):
            wallet = BookWallet(
                self.wallet(number), self.codes[number // 2], "customer", 'own, "er" \\ ; [x]'
            )
            text += writer.wallet(wallet)
        day = date(2026, 2, 1)
        for one in self.transactions:
            while day < _day_of(one):
                text += writer.closing(day, self.balances(day))
                day += timedelta(days=1)
            text += writer.transaction(one)
        *balances, last = self.balances(day)
        return text + writer.closing(day, [*balances, last._replace(minor=last.minor + off_by)])

    def recomputed(self, program: Program, folder: Path, *, off_by: int = 0) -> Recomputed:
        """Return what a program makes of it."""
        return _recomputed(program, self.text(program.name, off_by=off_by), folder)


def _recomputed(program: Program, text: str, folder: Path) -> Recomputed:
    file = folder / f"book.{program.name}"
    file.write_text(text, encoding="utf-8")
    return program.recompute(file)


@pytest.mark.parametrize("chosen", ALL)
def test_every_kind_of_code_and_of_exponent_is_read(
    programs: Programs, tmp_path: Path, chosen: ExportFormat
) -> None:
    paper = Paper(*CODES, "123")
    for number in range(len(paper.codes)):
        paper.move((2 * number, -123_456), (2 * number + 1, 123_456))
    for number in range(len(paper.codes)):
        paper.move((2 * number, 1), (2 * number + 1, -1), day=2)
    recomputed = paper.recomputed(programs[chosen], tmp_path)

    assert recomputed.is_accepted, recomputed.reason


@pytest.mark.parametrize("chosen", ALL)
@pytest.mark.parametrize("code", ["JPY", "USD", "POINTS8", "1UP"])
@pytest.mark.parametrize("amount", [1, 100, MOST])
def test_one_smallest_unit_in_one_balance_is_seen(
    programs: Programs, tmp_path: Path, chosen: ExportFormat, code: str, amount: int
) -> None:
    paper = Paper(code)
    paper.move((0, -amount), (1, amount))

    assert paper.recomputed(programs[chosen], tmp_path).is_accepted
    assert not paper.recomputed(programs[chosen], tmp_path, off_by=1).is_accepted
    assert not paper.recomputed(programs[chosen], tmp_path, off_by=-1).is_accepted


@pytest.mark.parametrize("chosen", JOURNALS)
def test_balances_are_read_back_to_the_last_digit(
    programs: Programs, tmp_path: Path, chosen: ExportFormat
) -> None:
    paper = Paper("1UP", "USD")
    paper.move((0, -MOST), (1, MOST))
    paper.move((2, -MOST), (3, MOST))
    balances = paper.recomputed(programs[chosen], tmp_path).balances

    assert balances is not None
    assert sorted(map(str, balances.values())) == [
        "-9223372.036854775807",
        "-92233720368547758.07",
        "9223372.036854775807",
        "92233720368547758.07",
    ]


def _legs_of(text: str, amount: str) -> str:
    """Return a text whose first two legs have another amount than 5.00."""
    text = text.replace("    -5.00 USD\n", f"    -{amount} USD\n", 1)
    return text.replace("    5.00 USD\n", f"    {amount} USD\n", 1)


@pytest.mark.parametrize("chosen", ALL)
def test_a_day_that_ends_wrong_is_seen_though_the_last_one_is_right(
    programs: Programs, tmp_path: Path, chosen: ExportFormat
) -> None:
    paper = Paper("USD")
    paper.move((0, -500), (1, 500))
    paper.move((0, -500), (1, 500), day=2)
    text = paper.text(chosen)
    assert _recomputed(programs[chosen], text, tmp_path).is_accepted

    # A cent more on the first day and one less on the second.
    first, _, second = text.partition("2026-02-02 * ")
    changed = f"{_legs_of(first, '5.01')}2026-02-02 * {_legs_of(second, '4.99')}"
    assert changed != text
    assert not _recomputed(programs[chosen], changed, tmp_path).is_accepted


@pytest.mark.parametrize("chosen", ALL)
@pytest.mark.parametrize(
    "description",
    [
        '!* =(hello) @ "quoted" \\ {1.00 USD} [2026/13/99] <x>',
        "two\nlines ; a comment | a note",
        "(code) text",
        "! pending",
        "* cleared",
        "= auto",
        "~ monthly",
        "#tag ^link :tag: date:2020-01-01",
        "1,000.00 USD",
        "ends with a backslash \\",
        "漢字 ünï 😀",
        "😀" * 500,
        "\x00\x1b[31m\u202e\u2028\u0085",
        "%% {{ }} $1 \\n",
    ],
)
def test_no_description_means_anything(
    programs: Programs, tmp_path: Path, chosen: ExportFormat, description: str
) -> None:
    # PostgreSQL stores no NUL; whatever else comes must not stop a program either.
    paper = Paper("USD")
    paper.move((0, -100), (1, 100), description=description)
    paper.move((0, -100), (1, 100), day=2)
    recomputed = paper.recomputed(programs[chosen], tmp_path)

    assert recomputed.is_accepted, recomputed.reason


@pytest.mark.parametrize("chosen", ALL)
@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_what_was_tampered_with_is_found(
    programs: Programs, tmp_path: Path, chosen: ExportFormat, tampering: str
) -> None:
    paper = Paper("USD", "JPY")
    paper.move((0, -500), (1, 500))
    paper.move((0, -500), (1, 500), (2, -70), (3, 70))
    text = paper.text(chosen)

    assert _recomputed(programs[chosen], text, tmp_path).is_accepted
    recomputed = _recomputed(programs[chosen], TAMPERINGS[tampering](text), tmp_path)
    assert not recomputed.is_accepted
    assert recomputed.reason


def test_256_errors_are_not_taken_for_none(programs: Programs, tmp_path: Path) -> None:
    # The exit status of ledger is their number modulo 256.
    paper = Paper("USD")
    paper.move((0, -500), (1, 500))
    text = paper.text(ExportFormat.LEDGER)
    wrong = f"\n2026-02-01 * wrong\n    Assets:Wallets:W-{paper.wallet(0)}    0.00 USD = 1.00 USD\n"
    recomputed = _recomputed(programs[ExportFormat.LEDGER], text + 256 * wrong, tmp_path)

    assert not recomputed.is_accepted
