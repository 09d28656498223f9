"""What the broker sends by the thousand: cut out of a connection's stream, and read from the bytes.

Deliveries and confirms pass three tasks, two queues and a dozen objects in aiormq, 35 µs each. Cut
out of the bytes as they arrive they cost 2. Whatever nobody asked for goes on as it came. The
filter itself is pure; the connection below it hands aiormq's keywords on. Of aiormq's inside a
channel that delivers uses the table `channels` of the connection; consuming, acks and the broker's
cancels stay the library's.

pamqp reads all fourteen properties into an object, 12 µs a message; those that nobody asks for are
skipped here. They are kept as octets, for whoever repeats them, and decoded when asked for. Where
the library itself cannot decode a message's properties, the message is delivered without them.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from struct import Struct, error
from typing import Any, Final, NamedTuple, SupportsIndex, TypeAlias, cast

from aio_pika import Connection
from aiormq.abc import AbstractConnection as Transport
from aiormq.channel import Channel
from aiormq.connection import SSLContextProvider, TransportFactory
from aiormq.exceptions import AMQPConnectionError
from pamqp import commands, constants, decode, frame
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
SHORT_TEXT_BYTES_MAX: Final = 255
"""What AMQP's short strings hold, and so the most that may be made of one."""
_FLAGS: Final = commands.Basic.Properties.flags
_CONTENT_TYPE: Final = _FLAGS["content_type"]
_CONTENT_ENCODING: Final = _FLAGS["content_encoding"]
_HEADERS: Final = _FLAGS["headers"]
_CORRELATION_ID: Final = _FLAGS["correlation_id"]
_REPLY_TO: Final = _FLAGS["reply_to"]
_EXPIRATION: Final = _FLAGS["expiration"]
_MESSAGE_ID: Final = _FLAGS["message_id"]
_TIMESTAMP: Final = _FLAGS["timestamp"]
_MESSAGE_TYPE: Final = _FLAGS["message_type"]
_USER_ID: Final = _FLAGS["user_id"]
_FLAGS_FIELD: Final = Struct(">H").unpack_from
_TABLE_SIZE: Final = Struct(">I").unpack_from
# The octets of delivery_mode and priority, whichever of the two are there.
_OCTETS: Final = {
    0: 0,
    _FLAGS["delivery_mode"]: 1,
    _FLAGS["priority"]: 1,
    _FLAGS["delivery_mode"] | _FLAGS["priority"]: 2,
}
_OCTET_FLAGS: Final = _FLAGS["delivery_mode"] | _FLAGS["priority"]
_UNREADABLE: Final = (IndexError, error)
_UNREADABLE_TABLE: Final = (ValueError, OverflowError, OSError, RecursionError, LookupError, error)


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


def short_text(octets: bytes) -> str:
    """Return a short string's text; what is no UTF-8 is escaped, and cut to what fits into one.

    An octet that is no UTF-8 takes four characters, so that the text of a short string would not
    always fit into a short string again.
    """
    try:
        return octets.decode()
    except UnicodeDecodeError:
        escaped = octets.decode("utf-8", "backslashreplace")
        return escaped.encode()[:SHORT_TEXT_BYTES_MAX].decode("utf-8", "ignore")


class Properties:
    """What our consumers ask of a message's properties; None where it was not set.

    As text, what is no UTF-8 is shown escaped, and what cannot be read at all is absent: no message
    may cost the connection. The octets are those that the sender wrote.
    """

    __slots__ = (
        "_message_id",
        "_table",
        "_user_id",
        "content_type_octets",
        "correlation_id_octets",
        "message_type_octets",
        "reply_to_octets",
    )

    def __init__(self, encoded: bytes) -> None:
        """`encoded` is a content header's payload from its flags on."""
        self.content_type_octets: bytes | None = None
        self.correlation_id_octets: bytes | None = None
        self.reply_to_octets: bytes | None = None
        self.message_type_octets: bytes | None = None
        self._message_id: bytes | None = None
        self._user_id: bytes | None = None
        self._table = b""
        try:
            self._read(encoded)
        except _UNREADABLE:
            return

    @property
    def content_type(self) -> str | None:
        """The content type as text."""
        return _optional_text(self.content_type_octets)

    @property
    def correlation_id(self) -> str | None:
        """The correlation id as text; whoever repeats it repeats its octets."""
        return _optional_text(self.correlation_id_octets)

    @property
    def reply_to(self) -> str | None:
        """The queue for a result, as text."""
        return _optional_text(self.reply_to_octets)

    @property
    def message_id(self) -> str | None:
        """The message's id as text."""
        return _optional_text(self._message_id)

    @property
    def message_type(self) -> str | None:
        """The message's type as text."""
        return _optional_text(self.message_type_octets)

    @property
    def user_id(self) -> str | None:
        """The broker's validated user as text."""
        return _optional_text(self._user_id)

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers, read when they are asked for; none if they cannot be read."""
        if not self._table:
            return {}
        try:
            return decode.field_table(self._table)[1]
        except _UNREADABLE_TABLE:
            return {}

    def _read(self, encoded: bytes) -> None:
        """Walk the values in the order of the protocol's table."""
        (flags,) = _FLAGS_FIELD(encoded)
        at = self._read_headers(encoded, flags)
        at += _OCTETS[flags & _OCTET_FLAGS]
        if flags & _CORRELATION_ID:
            self.correlation_id_octets, at = _short(encoded, at)
        if flags & _REPLY_TO:
            self.reply_to_octets, at = _short(encoded, at)
        if flags & _EXPIRATION:
            at += 1 + encoded[at]
        if flags & _MESSAGE_ID:
            self._message_id, at = _short(encoded, at)
        if flags & _TIMESTAMP:
            at += 8
        if flags & _MESSAGE_TYPE:
            self.message_type_octets, at = _short(encoded, at)
        if flags & _USER_ID:
            self._user_id, _ = _short(encoded, at)

    def _read_headers(self, encoded: bytes, flags: int) -> int:
        """Read what stands before the headers, keep them as they are, and return where they end."""
        at = 2
        if flags & _CONTENT_TYPE:
            self.content_type_octets, at = _short(encoded, at)
        if flags & _CONTENT_ENCODING:
            at += 1 + encoded[at]
        if flags & _HEADERS:
            start, at = at, at + 4 + _TABLE_SIZE(encoded, at)[0]
            self._table = encoded[start:at]
        return at


def _short(encoded: bytes, at: int) -> tuple[bytes, int]:
    end = at + 1 + encoded[at]
    return encoded[at + 1 : end], end


def _optional_text(octets: bytes | None) -> str | None:
    return None if octets is None else short_text(octets)


_LENGTH_BYTES: Final = 4
_MOMENT_BYTES: Final = 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FAULTS: Final = (ValueError, OverflowError, OSError, RecursionError)


def tolerate_undecodable_properties() -> None:
    """Exchange pamqp's decoders of properties; doing it again changes nothing."""
    decode.METHODS["shortstr"] = _short_text
    decode.METHODS["timestamp"] = decode.TABLE_MAPPING[b"T"] = _moment
    decode.METHODS["table"] = decode.TABLE_MAPPING[b"F"] = _table


def _short_text(value: bytes) -> tuple[int, str]:
    """Octets that are no UTF-8 are shown escaped, within a short string's bound."""
    end = 1 + value[0]
    return end, short_text(value[1:end])


def _moment(value: bytes) -> tuple[int, Any]:
    """A moment beyond all calendars is the epoch."""
    try:
        return decode.timestamp(value)
    except _FAULTS:
        return _MOMENT_BYTES, _EPOCH


def _table(value: bytes) -> tuple[int, Any]:
    """A table that cannot be read is empty."""
    try:
        return decode.field_table(value)
    except _FAULTS:
        return _LENGTH_BYTES + int.from_bytes(value[:_LENGTH_BYTES], "big"), {}


_TAG: Final = Struct(">Q").unpack_from


class Arrival(NamedTuple):
    """A message as it was delivered on a channel; `tag` is what acks it there."""

    channel: "DeliveringChannel"
    tag: int
    properties: Properties
    body: bytes


class DeliveringChannel(Channel):
    """Hands each delivery to `arrived`, which must not raise; the callback of a consumer is idle.

    It publishes nothing, and asks for no confirms.
    """

    def __init__(
        self,
        transport: Transport,
        connection: FilteredConnection,
        number: int,
        *,
        arrived: Callable[[Arrival], None],
    ) -> None:
        super().__init__(
            transport,
            number,
            publisher_confirms=False,
            frame_buffer=transport.FRAME_BUFFER_SIZE,
        )
        self._connection = connection
        self._arrived = arrived

    def hold(self, *, may_sip: bool) -> None:
        """Let what the broker sends wait in the socket, until `release`; no answer comes either.

        If it `may_sip`, a delivery comes every few seconds all the same.
        """
        self._connection.hold(may_sip=may_sip)

    def release(self) -> None:
        """Take deliveries again."""
        self._connection.release()

    def on_delivery(self, arguments: bytes, properties: bytes, body: bytes) -> None:
        """Take a delivery from the frame filter; its tag stands behind the consumer's name."""
        (tag,) = _TAG(arguments, 1 + arguments[0])
        self._arrived(Arrival(self, tag, Properties(properties), body))


async def open_delivering_channel(
    connection: FilteredConnection, *, arrived: Callable[[Arrival], None], timeout_s: float
) -> DeliveringChannel:
    """Return the one channel of a connection that has no other."""
    if connection.transport is None or connection.transport.connection.is_closed:
        raise ConnectionResetError("the connection is closed")
    transport = connection.transport.connection
    channel = DeliveringChannel(transport, connection, 1, arrived=arrived)
    transport.channels[channel.number] = channel
    connection.frame_filter.route(channel.number, {DELIVER: channel.on_delivery})
    await channel.open(timeout=timeout_s)
    return channel
