"""Metadata: kept with their exact values or refused, and within bounds that every writer bears."""

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from contracts.json import decode_json
from contracts.requests.validators import (
    METADATA_BYTES_MAX,
    METADATA_DEPTH_MAX,
    METADATA_VALUES_MAX,
    canonical_metadata,
)

_DIGITS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,21})([.][0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("0", "0"),
        ("18446744073709551615", "18446744073709551615"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9007199254740993", "9007199254740993"),
        ("1.5", "1.5"),
        ("1.50", "1.5"),
        ("0.1", "0.1"),
        ("1e2", "100.0"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("5e-324", "5e-324"),
    ],
)
def test_a_number_that_64_bits_hold_comes_back_with_its_value(sent: str, kept: str) -> None:
    text = canonical_metadata(decode_json(b'{"n":%b}' % sent.encode()))

    assert text == b'{"n":%b}' % kept.encode()


@pytest.mark.parametrize(
    "sent",
    [
        "18446744073709551616",
        "-9223372036854775809",
        "12345678901234567890123",
        "9007199254740993.0",
        "0.1000000000000000055",
        "1e309",
        "1e-400",
        "1e999999",
    ],
)
def test_a_number_that_would_lose_digits_is_refused(sent: str) -> None:
    with pytest.raises(PydanticCustomError, match="send it as a text"):
        canonical_metadata(decode_json(b'{"n":{"m":[%b]}}' % sent.encode()))


@given(_DIGITS)
def test_no_number_changes_its_value_in_silence(digits: str) -> None:
    try:
        text = canonical_metadata(decode_json(b'{"n":%b}' % digits.encode()))
    except PydanticCustomError:
        return
    # As every reader of ours reads and writes it again.
    again = orjson.dumps(orjson.loads(text))
    assert decode_json(again)["n"] == Decimal(digits)


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_metadata_are_bounded_in_depth_count_and_bytes() -> None:
    assert canonical_metadata(_nested(METADATA_DEPTH_MAX))
    assert canonical_metadata({str(n): n for n in range(METADATA_VALUES_MAX)})
    assert canonical_metadata({"a": [0] * (METADATA_VALUES_MAX - 1)})
    assert canonical_metadata({"a": "x" * (METADATA_BYTES_MAX - len('{"a":""}'))})
    for beyond, why in (
        (_nested(METADATA_DEPTH_MAX + 1), "levels deep"),
        (_nested(100_000), "levels deep"),
        ({str(n): n for n in range(METADATA_VALUES_MAX + 1)}, "values"),
        ({"a": [0] * METADATA_VALUES_MAX}, "values"),
        ({"a": "x" * (METADATA_BYTES_MAX - len('{"a":""}') + 1)}, "bytes"),
    ):
        with pytest.raises(PydanticCustomError, match=why):
            canonical_metadata(beyond)
