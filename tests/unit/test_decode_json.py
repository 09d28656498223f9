"""Bodies are read quickly, and exactly as the standard library reads them."""

import json
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.json_text import decode_json

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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_other_encodings_are_still_read(encoding: str) -> None:
    assert decode_json('{"amount": "1"}'.encode(encoding)) == {"amount": "1"}
