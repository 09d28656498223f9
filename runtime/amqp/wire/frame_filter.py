"""A filter in a connection's stream, which takes out the frames that come by the thousand.

Deliveries and confirms pass three tasks, two queues and a dozen objects in aiormq, 35 µs each. Cut
out of the bytes as they arrive they cost 2. Whatever nobody asked for goes on as it came. The
filter itself is pure; the connection below it hands aiormq's keywords on.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from struct import Struct
from typing import Any, Final, SupportsIndex, TypeAlias, cast

from aio_pika import Connection
from aiormq.connection import SSLContextProvider, TransportFactory
from aiormq.exceptions import AMQPConnectionError
from pamqp import commands, constants, frame
from pamqp.heartbeat import Heartbeat
from yarl import URL

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


class FrameFilter:
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

    def route(self, channel: int, handlers: Mapping[bytes, Handler]) -> None:
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


_HEARTBEAT: Final = frame.marshal(Heartbeat(), 0)
ALIVE_EVERY_S: Final = 1.0
"""How often taken frames are reported to aiormq as a sign of life."""
SIP_EVERY_S: Final = 8.0
"""Between two readings of a connection that is held: RabbitMQ ends one that takes nothing for half
a minute or longer, and everything that is in hand would come again."""


class FilteredConnection(Connection):
    """Ordinary in all respects; what its filter routes never reaches aiormq."""

    def __init__(self, url: URL, **settings: Any) -> None:
        super().__init__(url, **settings)
        self.frame_filter = FrameFilter()
        self._stream = _FilteredTransport(self.frame_filter)
        self.kwargs["transport_factory"] = self._stream

    def hold(self, *, may_sip: bool) -> None:
        """Read nothing more until `release`: the broker's backlog waits with the broker."""
        if self._stream.reader is not None:
            self._stream.reader.hold(may_sip=may_sip)

    def release(self) -> None:
        """Read again after `hold`."""
        if self._stream.reader is not None:
            self._stream.reader.release()

    async def connect(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # aio-pika's
        """Connect, or leave nothing: the library closes a failed one only when it is collected."""
        try:
            await super().connect(timeout)
        except BaseException:
            await self.close()
            raise


class _FilteredTransport(TransportFactory):
    """What aiormq's own factories do, with a reader of ours."""

    def __init__(self, frame_filter: FrameFilter) -> None:
        self._frame_filter = frame_filter
        self.reader: FilteredReader | None = None

    async def create(
        self, url: URL, **settings: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; raises AMQPConnectionError for what the operating system refuses."""
        provider: SSLContextProvider = settings.pop("ssl_context_provider")
        tls = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        reader = self.reader = FilteredReader(self._frame_filter)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, url.host or "", url.port or 0, ssl=tls, **settings
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class FilteredReader(asyncio.StreamReader):
    """Sifts what the socket brings, as it comes: no task, no queue, nothing to wait for."""

    def __init__(
        self,
        frame_filter: FrameFilter,
        *,
        alive_every_s: float = ALIVE_EVERY_S,
        sip_every_s: float = SIP_EVERY_S,
    ) -> None:
        super().__init__()
        self._frame_filter = frame_filter
        self._alive_every_s = alive_every_s
        self._sip_every_s = sip_every_s
        self._clock = asyncio.get_running_loop().time
        self._told_at = self._clock()
        self._socket: asyncio.ReadTransport | None = None
        self._pretending: asyncio.TimerHandle | None = None
        self._may_sip = False
        self._sip_at = 0.0

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to tell to pause."""
        super().set_transport(transport)
        self._socket = cast(asyncio.ReadTransport, transport)

    def hold(self, *, may_sip: bool) -> None:
        """Take nothing more from the socket; what is on its way waits there, then in the broker.

        The connection counts as alive meanwhile, since heartbeats are not read either. If it
        `may_sip`, a little is read every SIP_EVERY_S, until whoever gets it asks for a hold again:
        the broker gives up a connection that takes nothing at all.
        """
        self._may_sip = may_sip
        if self._socket is None or self._socket.is_closing():
            return
        self._socket.pause_reading()
        if self._pretending is None:
            self._sip_at = self._clock() + self._sip_every_s
            self._pretend_alive()

    def release(self) -> None:
        """Take from the socket again."""
        if self._pretending is None:
            return
        self._pretending.cancel()
        self._pretending = None
        if self._socket is not None and not self._socket.is_closing():
            self._socket.resume_reading()

    def _pretend_alive(self) -> None:
        self._pretending = asyncio.get_running_loop().call_later(
            self._alive_every_s, self._pretend_alive
        )
        super().feed_data(_HEARTBEAT)
        if self._may_sip and self._clock() >= self._sip_at and self._socket is not None:
            self._sip_at = self._clock() + self._sip_every_s
            if not self._socket.is_closing():
                self._socket.resume_reading()

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Take what the frame filter takes, and let aiormq read the rest."""
        left = self._frame_filter.feed(bytes(data))
        now = self._clock()
        if not left and now - self._told_at >= self._alive_every_s:
            # A broker that sends anything else sends no heartbeats, and aiormq gives up a
            # connection on which it reads nothing for half a minute.
            left = _HEARTBEAT
        if left:
            self._told_at = now
            super().feed_data(left)

    def feed_eof(self) -> None:
        """Let aiormq see that the stream broke off within a frame."""
        if self._pretending is not None:
            self._pretending.cancel()
        if rest := self._frame_filter.end():
            super().feed_data(rest)
        super().feed_eof()
