"""Amounts: exact, or refused."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.money import EXPONENTS, AmountError, decimal_of, format_minor, minor_units
from ledger.words import MINOR_MAX


@given(st.integers(0, MINOR_MAX), st.sampled_from(sorted(EXPONENTS)))
def test_what_is_written_is_read_back_exactly(minor: int, currency: str) -> None:
    assert minor_units(decimal_of(format_minor(minor, currency)), currency) == minor


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [
        ("100.50", "USD", 10050),
        ("100.5", "USD", 10050),
        ("007", "USD", 700),
        ("1000", "JPY", 1000),
        ("1.234", "KWD", 1234),
        ("1.2345", "CLF", 12345),
        ("1.000", "JPY", 1),
        (25, "USD", 2500),
        (Decimal("10.10"), "USD", 1010),
        (Decimal("1e2"), "USD", 10000),
        ("92233720368547758.07", "USD", MINOR_MAX),
    ],
)
def test_an_exact_amount_is_accepted(value: object, currency: str, minor: int) -> None:
    assert minor_units(decimal_of(value), currency) == minor


@pytest.mark.parametrize(
    ("value", "currency"),
    [
        ("1.001", "USD"),
        ("0.5", "JPY"),
        ("1.0000000000000000000000000000000000001", "USD"),
        (Decimal("1.00000000000000000000000000000000000000000001"), "USD"),
        (Decimal("1e-400"), "USD"),
        (Decimal("1e400"), "USD"),
        (Decimal("1e999999"), "USD"),
        (10**400, "USD"),
        ("92233720368547758.08", "USD"),
        ("9" * 41, "USD"),
        (Decimal("NaN"), "USD"),
        (Decimal("Infinity"), "USD"),
        (Decimal(-1), "USD"),
        (-1, "USD"),
        ("-1", "USD"),
        ("+1", "USD"),
        (" 1", "USD"),
        ("1\n", "USD"),
        ("1e2", "USD"),
        ("1_000", "USD"),
        ("1,5", "USD"),
        ("", "USD"),
        (".", "USD"),
        (".5", "USD"),
        ("5.", "USD"),
        ("\u0661", "USD"),
        (True, "USD"),
        (None, "USD"),
        (1.5, "USD"),
        ("1", "XXX"),
        ("1", "usd"),
    ],
)
def test_anything_else_is_refused(value: object, currency: str) -> None:
    with pytest.raises(AmountError):
        minor_units(decimal_of(value), currency)
