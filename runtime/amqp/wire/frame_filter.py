"""A sieve in a connection's stream: takes out the frames that come by the thousand; pure.

Deliveries and confirms pass three tasks, two queues and a dozen objects in aiormq, 35 µs each. Cut
out of the bytes as they arrive they cost 2. Whatever nobody asked for goes on as it came.
"""

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final, TypeAlias

from pamqp import commands, constants

DELIVER: Final = commands.Basic.Deliver.index.to_bytes(4, "big")
RETURN: Final = commands.Basic.Return.index.to_bytes(4, "big")
ACK: Final = commands.Basic.Ack.index.to_bytes(4, "big")
NACK: Final = commands.Basic.Nack.index.to_bytes(4, "big")

_WITH_CONTENT: Final = frozenset({DELIVER, RETURN})
_KINDS: Final = frozenset(
    {
        constants.FRAME_METHOD,
        constants.FRAME_HEADER,
        constants.FRAME_BODY,
        constants.FRAME_HEARTBEAT,
    }
)
_FRAME_START: Final = Struct(">BHI").unpack_from
_BODY_SIZE: Final = Struct(">Q").unpack_from
# Of a frame: kind, channel and size before the payload, one octet behind it.
_START: Final = 7
_AROUND: Final = 8
# Of a content header's payload: class and weight, then the body's size, then the properties.
_SIZE_AT: Final = _START + 4
_PROPERTIES_AT: Final = _SIZE_AT + 8
_ARGUMENTS_AT: Final = _START + 4

Handler: TypeAlias = Callable[[bytes, bytes, bytes], None]
"""Gets a method's arguments and, where it has a content, the properties and the body."""


class Sieve:
    """Takes some methods of one channel, with their contents, out of what the broker sends."""

    def __init__(self) -> None:
        self._channel = -1
        self._handlers: Mapping[bytes, Handler] = {}
        self._rest = b""
        self._is_open = True
        self._handler: Handler | None = None
        self._arguments = b""
        self._properties = b""
        self._parts: list[bytes] = []
        self._left = 0

    def take(self, channel: int, handlers: Mapping[bytes, Handler]) -> None:
        """Hand these methods of a channel to handlers from now on, in the order they come."""
        self._channel, self._handlers = channel, handlers

    def feed(self, data: bytes) -> bytes:
        """Return what is to go on: whole frames that no handler asked for."""
        if not self._is_open:
            return data
        data = self._rest + data if self._rest else data
        at, kept, end = 0, 0, len(data)
        passing: list[bytes] = []
        while end - at >= _AROUND:
            kind, channel, size = _FRAME_START(data, at)
            behind = at + size + _AROUND
            if kind not in _KINDS:
                # Not AMQP as we know it: the library behind us says so better.
                self._is_open = False
                at = end
                break
            if behind > end:
                break
            if channel == self._channel and self._takes(kind, data, at, behind):
                passing.append(data[kept:at])
                kept = behind
            at = behind
        self._rest = data[at:]
        passing.append(data[kept:at])
        return b"".join(passing)

    def end(self) -> bytes:
        """Return what arrived of a frame that will never be whole."""
        rest, self._rest = self._rest, b""
        return rest

    def _takes(self, kind: int, data: bytes, at: int, behind: int) -> bool:
        if kind == constants.FRAME_METHOD:
            return self._takes_method(data, at, behind)
        if self._handler is None:
            return False
        if kind == constants.FRAME_HEADER:
            self._left = _BODY_SIZE(data, at + _SIZE_AT)[0]
            self._properties = data[at + _PROPERTIES_AT : behind - 1]
        else:
            self._left -= behind - at - _AROUND
            self._parts.append(data[at + _START : behind - 1])
        if self._left <= 0:
            self._hand_over(self._handler)
        return True

    def _takes_method(self, data: bytes, at: int, behind: int) -> bool:
        method = data[at + _START : at + _ARGUMENTS_AT]
        handler = self._handlers.get(method)
        if handler is None:
            return False
        arguments = data[at + _ARGUMENTS_AT : behind - 1]
        if method in _WITH_CONTENT:
            self._handler, self._arguments = handler, arguments
        else:
            handler(arguments, b"", b"")
        return True

    def _hand_over(self, handler: Handler) -> None:
        parts, self._parts, self._handler = self._parts, [], None
        handler(self._arguments, self._properties, b"".join(parts))
