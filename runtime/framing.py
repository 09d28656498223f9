"""Frames of a publish, written for many messages at once; pure.

pamqp builds an object a frame and walks its attributes, 20 µs a message; what stays the same from
message to message is marshalled here once. The bytes are those of pamqp, and tests say so.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

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
_FRAME_START: Final = Struct(">BHI")
_CONTENT_START: Final = Struct(">HHQ")
_TIMESTAMP: Final = Struct(">Q")
_FLAGS_FIELD: Final = Struct(">H")
_BASIC_CLASS: Final = commands.Basic.frame_id
_NO_HEADERS: Final = encode.field_table({})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish, and where."""

    exchange: str
    routing_key: str
    body: bytes
    type: str
    correlation_id: str | None = None
    content_type: str | None = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    is_mandatory: bool = True


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
        parts.extend(_content(message, message_id, route))
    return b"".join(parts)


def _content(message: Outgoing, message_id: str, route: Route) -> Iterator[bytes]:
    body, most = message.body, route.content_size_max
    header = _CONTENT_START.pack(_BASIC_CLASS, 0, len(body)) + _properties(
        message, message_id, route
    )
    yield _FRAME_START.pack(constants.FRAME_HEADER, route.channel, len(header))
    yield header
    yield constants.FRAME_END_CHAR
    for start in range(0, len(body), most):
        piece = body[start : start + most]
        yield _FRAME_START.pack(constants.FRAME_BODY, route.channel, len(piece))
        yield piece
        yield constants.FRAME_END_CHAR


def _properties(message: Outgoing, message_id: str, route: Route) -> bytes:
    """The flags of what is set, then the values in the order of the protocol's table."""
    flags, content_type, correlation_id, kind = _ALWAYS, b"", b"", b""
    if message.content_type:
        flags |= _FLAGS["content_type"]
        content_type = _short(message.content_type)
    if message.correlation_id:
        flags |= _FLAGS["correlation_id"]
        correlation_id = encode.short_string(message.correlation_id)
    if message.type:
        flags |= _FLAGS["message_type"]
        kind = _short(message.type)
    return b"".join(
        (
            _FLAGS_FIELD.pack(flags),
            content_type,
            encode.field_table(dict(message.headers)) if message.headers else _NO_HEADERS,
            encode.octet(PERSISTENT),
            correlation_id,
            encode.short_string(message_id),
            _TIMESTAMP.pack(route.at_s),
            kind,
            _short(route.user),
            _short(_APPLICATION),
        )
    )


@functools.lru_cache(maxsize=1024)  # events have few routing keys; those of wallets come and go
def _method(exchange: str, routing_key: str, channel: int, *, is_mandatory: bool) -> bytes:
    method = commands.Basic.Publish(
        exchange=exchange, routing_key=routing_key, mandatory=is_mandatory
    )
    return frame.marshal(method, channel)


@functools.lru_cache(maxsize=256)  # content types, message types, users
def _short(text: str) -> bytes:
    return encode.short_string(text)
