"""Properties of deliveries: what pamqp reads of them, and nothing that costs the connection."""

from datetime import UTC, datetime
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.header import ContentHeader

from runtime.amqp.incoming import Properties, short_text

_OPTIONAL: Final = st.none() | st.text(max_size=40)
_AT: Final = 12  # of a content header: class, weight and the body's size come first

_PROPERTIES: Final = st.builds(
    commands.Basic.Properties,
    content_type=_OPTIONAL,
    content_encoding=_OPTIONAL,
    headers=st.none() | st.dictionaries(st.text(min_size=1, max_size=9), st.text(), max_size=3),
    delivery_mode=st.none() | st.just(2),
    priority=st.none() | st.integers(0, 255),
    correlation_id=_OPTIONAL,
    reply_to=_OPTIONAL,
    expiration=_OPTIONAL,
    message_id=_OPTIONAL,
    timestamp=st.none() | st.just(datetime(2026, 11, 21, tzinfo=UTC)),
    message_type=_OPTIONAL,
    user_id=_OPTIONAL,
    app_id=_OPTIONAL,
)


def _encoded(properties: commands.Basic.Properties) -> bytes:
    return ContentHeader(properties=properties).marshal()[_AT:]


@given(_PROPERTIES)
def test_they_are_read_as_pamqp_writes_them(properties: commands.Basic.Properties) -> None:
    read = Properties(_encoded(properties))

    assert (read.content_type or "") == (properties.content_type or "")
    assert (read.correlation_id or "") == (properties.correlation_id or "")
    assert (read.reply_to or "") == (properties.reply_to or "")
    assert (read.message_id or "") == (properties.message_id or "")
    assert (read.message_type or "") == (properties.message_type or "")
    assert (read.user_id or "") == (properties.user_id or "")
    assert read.headers == (properties.headers or {})


@given(st.binary(max_size=60))
def test_no_bytes_raise(encoded: bytes) -> None:
    read = Properties(encoded)

    assert dict(read.headers) is not None


def test_what_cannot_be_read_is_absent_and_what_stands_before_it_is_not() -> None:
    whole = _encoded(commands.Basic.Properties(content_type="text/plain", user_id="shop"))

    read = Properties(whole[: 2 + 11 + 1])

    assert (read.content_type, read.user_id) == ("text/plain", "")
    assert Properties(whole[:8]).user_id is None


def test_text_that_is_no_utf_8_is_shown_escaped() -> None:
    encoded = (1 << 15).to_bytes(2, "big") + b"\2\xff\xfe"

    assert Properties(encoded).content_type == "\\xff\\xfe"


def test_a_table_that_cannot_be_read_is_empty() -> None:
    encoded = (1 << 13).to_bytes(2, "big") + b"\0\0\0\3\x09ab"

    assert Properties(encoded).headers == {}


def test_the_octets_are_kept_and_their_text_fits_into_a_short_string() -> None:
    octets = b"\xc3\xa9" * 40 + b"\xff" * 175
    encoded = (1 << 10).to_bytes(2, "big") + bytes([len(octets)]) + octets

    read = Properties(encoded)

    assert read.correlation_id_octets == octets
    assert read.correlation_id is not None
    assert read.correlation_id.startswith("é" * 40 + "\\xff")
    assert len(read.correlation_id.encode()) <= 255


@given(st.binary(max_size=255))
def test_the_text_of_a_short_string_is_one_again(octets: bytes) -> None:
    text = short_text(octets)

    assert len(text.encode()) <= 255
    assert text.encode() == octets or b"\\x" in text.encode()
