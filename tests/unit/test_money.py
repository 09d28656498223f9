"""Amounts: exact, or refused."""

import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.money import (
    EXPONENT_MAX,
    EXPONENTS,
    WITHDRAWN_IN,
    AmountError,
    AssetSource,
    AssetStatus,
    UnknownCurrencyError,
    currency_refusal,
    decimal_of,
    exponent_of,
    format_minor,
    is_iso_4217,
    known_assets,
    minor_units,
    register_asset,
)
from ledger.words import MINOR_MAX

_BY_EXPONENT = [f"UNIT{exponent}" for exponent in range(EXPONENT_MAX + 1)]
for _exponent, _code in enumerate(_BY_EXPONENT):
    register_asset(_code, _exponent, is_usable=True)


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


@given(st.integers(-MINOR_MAX, MINOR_MAX), st.sampled_from([*_BY_EXPONENT, "USD", "HRK", "CLF"]))
def test_an_amount_is_written_with_exactly_its_currency_s_decimals(
    minor: int, currency: str
) -> None:
    text = format_minor(minor, currency)

    assert len(text.partition(".")[2]) == exponent_of(currency)
    assert Decimal(text).scaleb(exponent_of(currency)) == minor


def test_each_code_of_today_has_one_place() -> None:
    today = {one.code for one in known_assets() if one.status is AssetStatus.ACTIVE}
    counts = [
        sum(EXPONENTS[code] == exponent for code in today if is_iso_4217(code))
        for exponent in range(5)
    ]

    assert counts == [17, 0, 139, 7, 2]
    assert not today & WITHDRAWN_IN.keys()
    assert "BGN" not in today
    assert "XAD" in today


@pytest.mark.parametrize("code", ["BGN", "HRK", "VEF", "DEM", "BYR"])
def test_the_books_of_a_withdrawn_currency_stay_readable(code: str) -> None:
    minor = minor_units(decimal_of("12"), code)

    assert format_minor(minor, code).rstrip("0").rstrip(".") == "12"


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("HRK", "'HRK' left ISO 4217 in 2023: only withdrawals from the wallets that hold it"),
        ("BGN", "'BGN' left ISO 4217 in 2026: "),
        ("XXX", "'XXX' is not an ISO 4217 currency code or a registered asset"),
        ("DDM", "'DDM' is not an ISO 4217 currency code"),
        ("usd", "'usd' is not an ISO 4217 currency code"),
    ],
)
def test_a_new_request_in_another_currency_is_refused_with_its_reason(
    code: str, refusal: str
) -> None:
    assert (currency_refusal(code) or "").startswith(refusal)


def test_what_only_pays_out_may_name_a_withdrawn_currency() -> None:
    assert currency_refusal("HRK", pays_out=True) is None
    assert currency_refusal("XXX", pays_out=True) is not None


def test_an_asset_is_written_before_requests_may_name_it() -> None:
    register_asset("EARLY6", 6, is_usable=False)

    assert format_minor(1, "EARLY6") == "0.000001"
    assert "a moment ago" in (currency_refusal("EARLY6", pays_out=True) or "")
    assert "EARLY6" not in {one.code for one in known_assets()}

    register_asset("EARLY6", 6, is_usable=True)

    assert currency_refusal("EARLY6") is None
    [shown] = [one for one in known_assets() if one.code == "EARLY6"]
    assert (shown.exponent, shown.source, shown.withdrawn_in) == (6, AssetSource.REGISTERED, None)


def test_a_code_that_iso_4217_took_later_keeps_what_it_was_registered_with() -> None:
    program = (
        "from contracts.money import *\n"
        "register_asset('SVC', 8, is_usable=True)\n"
        "print(format_minor(1, 'SVC'), exponent_of('SVC'), EXPONENTS['SVC'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert done.stdout.decode() == "0.00000001 8 8\n"


def test_the_amount_of_a_currency_that_nobody_knows_is_never_guessed() -> None:
    with pytest.raises(UnknownCurrencyError, match="'NOBODY'"):
        format_minor(1, "NOBODY")


@pytest.mark.parametrize("code", ["USD", "XAU", "XXX", "HRK", "DDM", "XEU"])
def test_no_code_of_iso_4217_is_free_for_an_asset(code: str) -> None:
    assert is_iso_4217(code)
    assert not is_iso_4217(f"{code}2")
