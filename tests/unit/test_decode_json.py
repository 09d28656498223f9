"""Bodies are read quickly, and exactly as the standard library reads them."""

import json
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.json import (
    COLONS_PER_TRANSACTION_MAX,
    JSON_DEPTH_MAX,
    JSON_VALUES_MAX,
    decode_json,
)

_SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=9)
)
_VALUES: Final = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def _typed(value: Any) -> Any:
    """Tell 1 from True and from Decimal(1), which are equal."""
    if isinstance(value, dict):
        return {name: _typed(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_typed(one) for one in value]
    return type(value), value


@given(value=_VALUES, is_ascii=st.booleans())
@example(value={"amount": 18446744073709551616, "more": [-9223372036854775809]}, is_ascii=False)
@example(value=[-0.0, 1e-400, [[{"a": 0.1}]]], is_ascii=True)
def test_a_value_is_read_with_every_digit(*, value: Any, is_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")

    assert _typed(decode_json(body)) == _typed(json.loads(body, parse_float=Decimal))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"NaN", b"[Infinity]", b"1e99999999999999999999", b"[" * 100_000, b"\xff"]
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_json(body)


def test_a_mark_before_utf_8_is_read_over() -> None:
    assert decode_json('{"amount": "1"}'.encode("utf-8-sig")) == {"amount": "1"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_no_other_encoding_is_guessed(encoding: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_json('{"amount": "1"}'.encode(encoding))


_NAMES: Final = st.sampled_from(["a", "b", '":', '\\"', ":", "\\", " :", "\n", "é", ""])
_BLANKS: Final = st.sampled_from(["", "", " ", "\n", "\t ", "\r"])


@st.composite
def _texts(draw: st.DrawFn, depth: int = 2) -> str:
    """Objects whose names come again more often than not, with blanks where JSON allows them."""
    if depth == 0 or draw(st.booleans()):
        return json.dumps(draw(st.none() | st.integers(0, 9) | _NAMES | st.just(1.5)))
    members = [
        f"{draw(_BLANKS)}{_name(draw)}{draw(_BLANKS)}:{draw(_texts(depth=depth - 1))}"
        for _ in range(draw(st.integers(0, 3)))
    ]
    return "{" + ",".join(members) + "}"


def _name(draw: st.DrawFn) -> str:
    name = draw(_NAMES)
    # Two ways to write one name.
    return '"\\u0061"' if name == "a" and draw(st.booleans()) else json.dumps(name)


def _has_a_name_twice(text: str) -> bool:
    found = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        found.append(len({name for name, _ in pairs}) != len(pairs))

    json.loads(text, object_pairs_hook=note)
    return any(found)


@given(_texts(depth=3), st.sampled_from(["utf-8", "utf-8-sig"]))
@example('{"a" :1,"a":2}', "utf-8")
@example('{"b":"\\":","a":1,"a":2}', "utf-8")
@example('{"t":"12:00","a":{"b" :1}}', "utf-8")
def test_a_name_that_stands_twice_is_refused_and_nothing_else(text: str, encoding: str) -> None:
    body = text.encode(encoding)
    if _has_a_name_twice(text):
        with pytest.raises(ValueError, match="stands twice in one object"):
            decode_json(body)
    else:
        assert _typed(decode_json(body)) == _typed(json.loads(text, parse_float=Decimal))


def _nested(levels: int, kind: str) -> bytes:
    start, end = {"objects": (b'{"a":', b"}"), "lists": (b"[", b"]")}[kind]
    return start * levels + b"1" + end * levels


@pytest.mark.parametrize("kind", ["objects", "lists"])
@pytest.mark.parametrize("more", [b"", b" ", b"\n \t"])
def test_the_depth_of_a_body_has_a_bound(kind: str, more: bytes) -> None:
    assert decode_json(_nested(JSON_DEPTH_MAX, kind) + more) is not None
    for levels in (JSON_DEPTH_MAX + 1, 254, 2_000, 200_000):
        with pytest.raises(ValueError, match=r"levels deep|values|too many fields"):
            decode_json(_nested(levels, kind) + more)


@pytest.mark.parametrize(
    ("start", "each", "end"),
    [
        (b"[", b"%d", b"]"),
        (b"[", b"[]", b"]"),
        (b"[", b"{}", b"]"),
        (b"[", b'"[{%d"', b"]"),
    ],
)
def test_the_values_of_a_body_have_a_bound(start: bytes, each: bytes, end: bytes) -> None:
    def body(count: int) -> bytes:
        count -= start.count(b":")
        written = [each % number if b"%d" in each else each for number in range(count)]
        return start + b",".join(written) + end

    assert len(decode_json(body(JSON_VALUES_MAX))) == JSON_VALUES_MAX
    with pytest.raises(ValueError, match=f"more than {JSON_VALUES_MAX} values"):
        decode_json(body(JSON_VALUES_MAX + 1))


@pytest.mark.parametrize(
    ("start", "each", "end"),
    [
        (b"{", b'"%d":0', b"}"),
        (b"{", b'"%d" : 0', b"}"),
        (b"{", b'"%d":1.5', b"}"),
        (b'{"x":"\\ud800",', b'"%d":0', b"}"),
        (b"[", b'"\\":%d"', b"]"),
    ],
)
def test_the_colons_of_a_body_have_a_bound_for_each_transaction(
    start: bytes, each: bytes, end: bytes
) -> None:
    def body(count: int) -> bytes:
        written = [each % number for number in range(count - start.count(b":"))]
        return start + b",".join(written) + end

    assert len(decode_json(body(COLONS_PER_TRANSACTION_MAX))) == COLONS_PER_TRANSACTION_MAX
    with pytest.raises(ValueError, match="too many fields"):
        decode_json(body(COLONS_PER_TRANSACTION_MAX + 1))
