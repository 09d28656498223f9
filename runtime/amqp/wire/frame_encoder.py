"""Frames of a publish, written for many messages at once; pure.

pamqp builds an object a frame and walks its attributes, 20 µs a message; what stays the same from
message to message is marshalled here once. The bytes are those of pamqp, and tests say so.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from types import MappingProxyType
from typing import Final, NamedTuple

from pamqp import commands, constants, encode, frame

PERSISTENT: Final = 2
_APPLICATION: Final = "ackledger"

_FLAGS: Final = commands.Basic.Properties.flags
_ALWAYS: Final = (
    _FLAGS["headers"]
    | _FLAGS["delivery_mode"]
    | _FLAGS["message_id"]
    | _FLAGS["timestamp"]
    | _FLAGS["user_id"]
    | _FLAGS["app_id"]
)
_FRAME_START: Final = Struct(">BHI").pack
# The same, and what a content header begins with: class, weight, the body's size.
_HEADER_START: Final = Struct(">BHIHHQ").pack
_CONTENT_START_SIZE: Final = 12
_TIMESTAMP: Final = Struct(">Q")
_FLAGS_FIELD: Final = Struct(">H")
_BASIC_CLASS: Final = commands.Basic.frame_id
_LONG_TEXT_START: Final = Struct(">cI").pack
_TABLE_START: Final = Struct(">I").pack
_NO_HEADERS: Final = encode.field_table({})


class Outgoing(NamedTuple):
    """A message to publish, and where."""

    exchange: str
    routing_key: str
    body: bytes
    type: str | bytes
    """This and the next two are repeated byte for byte where they are another sender's octets."""
    correlation_id: str | bytes | None = None
    content_type: str | bytes | None = "application/json"
    headers: Mapping[str, str] | bytes = MappingProxyType({})
    """Texts by name, or what `text_headers` made of them: many messages share some."""
    is_mandatory: bool = True
    traceparent: str | None = None
    """What of its headers names its trace, for whoever records that it was sent."""


@dataclass(frozen=True, slots=True)
class Route:
    """What all messages of one writing share: where they are written, by whom and when."""

    channel: int
    content_size_max: int
    """Bytes of a body in one frame; what is longer takes several."""
    user: str
    """The broker checks that it is the connection's own."""
    at_s: int
    """Seconds since 1970."""


def publish_frames(messages: Sequence[Outgoing], message_ids: Sequence[str], route: Route) -> bytes:
    """Return the bytes that publish messages in their order, each under its id."""
    parts: list[bytes] = []
    for message, message_id in zip(messages, message_ids, strict=True):
        parts.append(
            _method(
                message.exchange,
                message.routing_key,
                route.channel,
                is_mandatory=message.is_mandatory,
            )
        )
        parts += _header(message, message_id, route)
        parts += _body(message.body, route)
    return b"".join(parts)


def _header(message: Outgoing, message_id: str, route: Route) -> tuple[bytes, ...]:
    """The flags of what is set, then the values in the order of the protocol's table."""
    correlation_id = message.correlation_id
    before, after = _frame_of_properties(
        message.type,
        message.content_type,
        route.user,
        route.at_s,
        has_correlation=bool(correlation_id),
    )
    headers = _table(message.headers) if message.headers else _NO_HEADERS
    own = _own_short(message_id)
    if correlation_id:
        own = _own_short(correlation_id) + own
    size = _CONTENT_START_SIZE + len(before) + len(headers) + 1 + len(own) + len(after)
    start = _HEADER_START(
        constants.FRAME_HEADER, route.channel, size, _BASIC_CLASS, 0, len(message.body)
    )
    return start, before, headers, _PERSISTENT, own, after, constants.FRAME_END_CHAR


def _body(body: bytes, route: Route) -> Iterator[bytes]:
    for start in range(0, len(body), route.content_size_max):
        piece = body[start : start + route.content_size_max]
        yield _FRAME_START(constants.FRAME_BODY, route.channel, len(piece))
        yield piece
        yield constants.FRAME_END_CHAR


_PERSISTENT: Final = encode.octet(PERSISTENT)


@functools.lru_cache(maxsize=256)  # kinds of message of one writing share theirs
def _frame_of_properties(
    kind: str | bytes,
    content_type: str | bytes | None,
    user: str,
    at_s: int,
    *,
    has_correlation: bool,
) -> tuple[bytes, bytes]:
    """Return what stands before the headers, and what behind the message's id."""
    flags = _ALWAYS
    if content_type:
        flags |= _FLAGS["content_type"]
    if has_correlation:
        flags |= _FLAGS["correlation_id"]
    if kind:
        flags |= _FLAGS["message_type"]
    before = _FLAGS_FIELD.pack(flags) + (_own_short(content_type) if content_type else b"")
    names = [kind, user, _APPLICATION] if kind else [user, _APPLICATION]
    return before, _TIMESTAMP.pack(at_s) + b"".join(map(_own_short, names))


def _table(headers: Mapping[str, str] | bytes) -> bytes:
    table = headers if isinstance(headers, bytes) else text_headers(headers)
    return _TABLE_START(len(table)) + table


def text_headers(headers: Mapping[str, str]) -> bytes:
    """Return headers as they stand in a message, in the order of their names.

    Such octets may be put behind one another; a name stands once in all of them.
    """
    parts: list[bytes] = []
    for name, value in sorted(headers.items()):
        # Half a surrogate pair, which JSON may hold, is no text: better shown so than not at all.
        text = value.encode(errors="replace")
        parts += (_short(name), _LONG_TEXT_START(b"S", len(text)), text)
    return b"".join(parts)


def text_header(name: str, value: str) -> bytes:
    """Return one header as it stands in a message."""
    text = value.encode(errors="replace")
    return b"%b%b%b" % (_short(name), _LONG_TEXT_START(b"S", len(text)), text)


def _own_short(text: str | bytes) -> bytes:
    """A short string that no other message has."""
    encoded = text if isinstance(text, bytes) else text.encode()
    try:
        return len(encoded).to_bytes(1, "big") + encoded
    except OverflowError:
        raise ValueError("a short string of more than 255 bytes in length") from None


@functools.lru_cache(maxsize=1024)  # events have few routing keys; those of wallets come and go
def _method(exchange: str, routing_key: str, channel: int, *, is_mandatory: bool) -> bytes:
    method = commands.Basic.Publish(
        exchange=exchange, routing_key=routing_key, mandatory=is_mandatory
    )
    return frame.marshal(method, channel)


@functools.lru_cache(maxsize=256)  # names of headers
def _short(text: str) -> bytes:
    return encode.short_string(text)
