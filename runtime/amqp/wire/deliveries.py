"""Deliveries without a task, a future or a queue between, and their properties read from the bytes.

aiormq reads each of a delivery's three frames by itself, builds an object of it, hands it from the
connection's reader to the channel's and runs the consumer's callback as a task: 40 µs. Here the
connection's frame filter calls the consumer. Of aiormq's inside this uses the table `channels` of
the connection; consuming, acks and the broker's cancels stay the library's.

pamqp reads all fourteen properties into an object, 12 µs a message; those that nobody asks for are
skipped here. They are kept as octets, for whoever repeats them, and decoded when asked for. Where
the library itself cannot decode a message's properties, the message is delivered without them.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from struct import Struct, error
from typing import Any, Final, NamedTuple

from aiormq.abc import AbstractConnection as Transport
from aiormq.channel import Channel
from pamqp import commands, decode

from runtime.amqp.wire.frame_filter import DELIVER, FilteredConnection

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
