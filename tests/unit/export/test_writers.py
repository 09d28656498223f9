"""Books as text: what each program wants written, rule by rule."""

from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.export.book import Balance, BookAsset, BookTransaction, BookWallet, BookWriter
from cli.export.exporting import ExportFormat, writer_of
from cli.export.texts import (
    beancount_commodity,
    beancount_string,
    flat,
    quoted_commodity,
    reference_of_text,
)
from contracts.identifiers import reference_of
from contracts.money import register_asset

ONE, OTHER, WORLD, HOUSE = (str(UUID(int=number)) for number in (0xA << 124, 1, 2, 3))
OWN = {WORLD: ("external", "USD"), HOUSE: ("internal", "USD")}
ASSETS = [BookAsset("JPY", 0), BookAsset("POINTS8", 8), BookAsset("USD", 2)]
DAY = date(2026, 2, 28)


@pytest.fixture(autouse=True)
def _points() -> None:
    register_asset("POINTS8", 8, is_usable=True)


def begun(chosen: ExportFormat) -> BookWriter:
    """Return a writer after its heading."""
    writer = writer_of(chosen, OWN)
    writer.heading(ASSETS)
    return writer


def moved(minor: int, currency: str, *, description: str | None = None) -> BookTransaction:
    """Return a transfer between the two wallets."""
    return BookTransaction(
        id=str(UUID(int=7)),
        type="transfer",
        completed_at="2026-02-28T23:59:59.000000Z",
        submitter="shop",
        idempotency_key="key",
        reverses=None,
        description=description,
        legs=((ONE, currency, -minor, "1"), (OTHER, currency, minor, "1")),
    )


def test_hledger_is_told_the_mark_first_and_the_decimals_of_each_commodity() -> None:
    heading = writer_of(ExportFormat.HLEDGER, OWN).heading(ASSETS)

    assert heading.splitlines() == [
        "decimal-mark .",
        "commodity 1000. JPY",
        'commodity 1000.00000000 "POINTS8"',
        "commodity 1000.00 USD",
        "",
    ]


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (100_000, "USD", "1000.00 USD"),
        (1, "USD", "0.01 USD"),
        (1_000, "JPY", "1000 JPY"),
        (1, "POINTS8", '0.00000001 "POINTS8"'),
        (2**63 - 1, "USD", "92233720368547758.07 USD"),
    ],
)
def test_amounts_are_plain_digits_with_exactly_the_decimals(
    minor: int, currency: str, text: str
) -> None:
    for chosen in (ExportFormat.HLEDGER, ExportFormat.LEDGER):
        lines = begun(chosen).transaction(moved(minor, currency)).splitlines()
        assert lines[-2:] == [
            f"    Assets:Wallets:W-{ONE}    -{text}",
            f"    Assets:Wallets:W-{OTHER}    {text}",
        ]


def test_accounts_begin_with_a_capital_and_hold_no_name_of_people() -> None:
    for chosen in (ExportFormat.HLEDGER, ExportFormat.LEDGER, ExportFormat.BEANCOUNT):
        writer = begun(chosen)
        declared = [
            writer.wallet(BookWallet(wallet, "USD", "customer", "Owner: \n; x"))
            for wallet in (ONE, WORLD, HOUSE)
        ]
        assert f"Assets:Wallets:W-{ONE}" in declared[0]
        assert "Equity:External:USD" in declared[1]
        assert f"Equity:Internal:W-{HOUSE}" in declared[2]
        assert all("Owner: x" in one.splitlines()[1] for one in declared)


@pytest.mark.parametrize(
    ("code", "journal", "beancount"),
    [
        ("USD", "USD", "USD"),
        ("POINTS8", '"POINTS8"', "POINTS8"),
        ("1UP", '"1UP"', "/1UP"),
        ("TRUE", "TRUE", "/TRUE"),
        ("FALSE", "FALSE", "/FALSE"),
        ("NULL", "NULL", "/NULL"),
        ("123", '"123"', "CODE-123"),
    ],
)
def test_codes_are_written_as_each_program_reads_them(
    code: str, journal: str, beancount: str
) -> None:
    assert quoted_commodity(code) == journal
    assert beancount_commodity(code) == beancount


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("two\nlines", "two lines"),
        ("a;b|c", "a b c"),
        ("  wide \t\u2028 \u00a0 text ", "wide text"),
        ("\x1b[31mred", "[31mred"),
        ("漢字 😀", "漢字 😀"),
        (";|\n", ""),
    ],
)
def test_a_text_stays_on_its_line(text: str, expected: str) -> None:
    assert flat(text) == expected


@pytest.mark.parametrize("description", [None, "", " ;\n"])
def test_what_has_no_description_is_called_by_its_type(description: str | None) -> None:
    for chosen in (ExportFormat.HLEDGER, ExportFormat.LEDGER):
        text = begun(chosen).transaction(moved(1, "USD", description=description))
        assert text.splitlines()[1].endswith(") transfer")
    text = begun(ExportFormat.BEANCOUNT).transaction(moved(1, "USD", description=description))
    assert ' * "transfer" ^TXN-' in text


@pytest.mark.parametrize("description", ["! x", "* x", "(x) y", "= x"])
def test_a_description_stands_after_flag_and_code(description: str) -> None:
    for chosen in (ExportFormat.HLEDGER, ExportFormat.LEDGER):
        line = begun(chosen).transaction(moved(1, "USD", description=description)).splitlines()[1]
        assert line.startswith("2026-02-28 * (TXN-")
        assert line.endswith(f") {description}")


def test_quotes_and_backslashes_are_escaped_for_beancount() -> None:
    assert beancount_string('a "b" \\ c') == '"a \\"b\\" \\\\ c"'


def test_the_time_of_day_is_a_tag_alone_on_its_line() -> None:
    lines = begun(ExportFormat.LEDGER).transaction(moved(1, "USD")).splitlines()

    assert "    ; time: 23:59:59.000000" in lines
    assert "    ; type: transfer" in lines


def test_beancount_asserts_with_no_tolerance_on_the_morning_after() -> None:
    text = begun(ExportFormat.BEANCOUNT).closing(DAY, [Balance(ONE, "USD", 1)])

    assert text.strip() == f"2026-03-01 balance Assets:Wallets:W-{ONE}    0.01 ~ 0 USD"


def test_journals_assert_by_postings_of_nothing_on_the_day() -> None:
    for chosen in (ExportFormat.HLEDGER, ExportFormat.LEDGER):
        first, posting = begun(chosen).closing(DAY, [Balance(ONE, "JPY", 7)]).strip().splitlines()
        assert first.startswith("2026-02-28 * ")
        assert posting == f"    Assets:Wallets:W-{ONE}    0 JPY = 7 JPY"


@given(st.uuids())
def test_a_reference_is_that_of_the_api(transaction_id: UUID) -> None:
    assert reference_of_text(str(transaction_id)) == reference_of(transaction_id)
