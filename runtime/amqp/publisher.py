"""Publishing that believes only the broker's Basic.Ack.

The frames of a publish, written for many messages at once; a channel of confirms on which many
messages are in flight; and the publisher that keeps one open. pamqp builds an object a frame and
walks its attributes, 20 µs a message; what stays the same from message to message is marshalled
here once. The bytes are those of pamqp, and tests say so.
"""

import asyncio
import functools
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from types import MappingProxyType
from typing import Final, NamedTuple, Never

import structlog
from aiormq.abc import AbstractConnection as Transport
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel as ClientChannel
from aiormq.exceptions import ChannelInvalidStateError
from pamqp import commands, constants, encode, frame
from pamqp.commands import Basic

from runtime.amqp.connection import (
    CONNECT_TIMEOUT_S,
    UNREACHABLE,
    BrokerLink,
    Channel,
    close,
    connect,
    loss_as_error,
    open_channel,
    user_of,
)
from runtime.amqp.incoming import ACK, NACK, RETURN, FilteredConnection, Properties
from runtime.amqp.topology import QueueDownError, TopologyError, check_queue

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
UNCONFIRMED_MAX: Final = 20_000
"""Messages without a confirm on one channel; a broker that owes more is not given another."""
LOOK_S: Final = 0.05
"""Between two looks at a queue that is not up."""
_TAG_DIGITS: Final = 12
_CONFIRM: Final = Struct(">QB").unpack_from
_MULTIPLE: Final = 1

log = structlog.get_logger()


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


class NotConfirmedError(Exception):
    """The broker did not confirm: the message may or may not have arrived. Publish it again."""


class UnroutableError(NotConfirmedError):
    """No queue took a message that was mandatory; it certainly did not arrive."""

    def __init__(self, detail: str, *, refused: Sequence[int] = ()) -> None:
        """`refused` are the places of those of the same call that the broker said no to."""
        super().__init__(detail)
        self.refused = tuple(refused)


class RefusedError(NotConfirmedError):
    """The broker said no to some of the messages, and confirmed all others of the same call.

    One of the queues that such a message goes to is full, say; others may have taken it.
    """

    def __init__(self, refused: Sequence[int]) -> None:
        """`refused` are their places among the messages, in ascending order."""
        super().__init__(f"the broker refused {len(refused)} of the messages")
        self.refused = tuple(refused)


class Flight:
    """Messages that were written together, until the broker has said something about each."""

    def __init__(self, tags: range, landed: "asyncio.Future[None]") -> None:
        self._first_tag = tags.start
        self._open = len(tags)
        self._refused: list[int] = []
        self._returned_from: str | None = None
        self.landed = landed
        """Done when every message is settled; fails with the channel."""

    def settle(self, tag: int, *, is_acked: bool) -> None:
        """Count one message's confirm."""
        self._open -= 1
        if not is_acked:
            self._refused.append(tag - self._first_tag)
        if self._open == 0 and not self.landed.done():
            self.landed.set_result(None)

    def give_back(self, place: str) -> None:
        """Note that no queue took one of the messages; its confirm is still to come."""
        self._returned_from = place

    def check(self) -> None:
        """Raise unless all messages arrived; to be asked once it has landed."""
        if self._returned_from is not None:
            raise UnroutableError(
                f"no queue took it: {self._returned_from}", refused=sorted(self._refused)
            )
        if self._refused:
            raise RefusedError(sorted(self._refused))


class ConfirmChannel(ClientChannel):
    """Publishes in flights. Only Basic.Ack counts as arrived."""

    def __init__(self, transport: Transport, number: int, *, user: str) -> None:
        super().__init__(transport, number, frame_buffer=transport.FRAME_BUFFER_SIZE)
        self._user = user
        # With the delivery tag it makes a message id that no other attempt ever has.
        self._mark = secrets.token_hex(10)
        self._flights: OrderedDict[int, Flight] = OrderedDict()
        self._last_tag = 0
        self._turn = asyncio.Lock()

    async def write(self, messages: Sequence[Outgoing]) -> Flight:
        """Hand messages to the socket, in order; return when they left, not when they arrived.

        Waits while the broker blocks the connection or reads nothing, so what is buffered stays
        within one writing. Cancelled before its turn, it has sent nothing.
        """
        async with self._turn:
            # As a task of the channel's: a wait for the end of a block ends with the channel.
            await self.create_task(self.connection.ready())
            if self.is_closed:
                raise ChannelInvalidStateError(f"{self!r} closed")
            if len(self._flights) + len(messages) > UNCONFIRMED_MAX:
                raise NotConfirmedError(f"{len(self._flights)} messages wait for their confirm")
            tags = range(self._last_tag + 1, self._last_tag + 1 + len(messages))
            written = await self._enqueue(self._frames(messages, tags))
            # There is no way back, and nothing was awaited since: no confirm can come before its
            # tag is known.
            flight = Flight(tags, self.create_future())
            self._flights.update(dict.fromkeys(tags, flight))
            self._last_tag = tags[-1]
            # Shielded: a writer whose future is cancelled would not wait for the socket any more.
            await asyncio.shield(written)
        return flight

    async def _enqueue(self, frames: bytes) -> "asyncio.Future[None]":
        """Put frames into the writer's line; what is returned is done when they left."""
        written: asyncio.Future[None] = self.create_future()
        try:
            await self.write_queue.put(
                ChannelFrame(frames, should_close=False, drain_future=written)
            )
        except BaseException:
            written.cancel()
            raise
        return written

    def _frames(self, messages: Sequence[Outgoing], tags: Sequence[int]) -> bytes:
        route = Route(
            channel=self.number,
            content_size_max=self.max_content_size,
            user=self._user,
            at_s=int(time.time()),
        )
        ids = [f"{self._mark}{tag:0{_TAG_DIGITS}x}" for tag in tags]
        return publish_frames(messages, ids, route)

    async def basic_publish(self, *_: object, **__: object) -> Never:
        """Refused: it would count delivery tags of its own."""
        raise NotImplementedError("a ConfirmChannel publishes with `write`")

    def on_ack(self, arguments: bytes, _: bytes, __: bytes) -> None:
        """Take the broker's word that it has a message, or all up to it."""
        self._confirm(arguments, is_acked=True)

    def on_nack(self, arguments: bytes, _: bytes, __: bytes) -> None:
        """Take the broker's word that it does not have a message, or any up to it."""
        self._confirm(arguments, is_acked=False)

    def on_return(self, arguments: bytes, properties: bytes, _: bytes) -> None:
        """Note a message that no queue took; its confirm comes behind it."""
        returned = Basic.Return()
        returned.unmarshal(arguments)
        message_id = Properties(properties).message_id or ""
        flight = self._flights.get(int(message_id[-_TAG_DIGITS:], 16))
        if flight is not None:
            flight.give_back(returned.exchange or returned.routing_key or "")

    def _confirm(self, arguments: bytes, *, is_acked: bool) -> None:
        tag, bits = _CONFIRM(arguments)
        if not bits & _MULTIPLE:
            self._settle(tag, is_acked=is_acked)
            return
        while self._flights and (first := next(iter(self._flights))) <= tag:
            self._settle(first, is_acked=is_acked)

    def _settle(self, tag: int, *, is_acked: bool) -> None:
        flight = self._flights.pop(tag, None)
        if flight is not None:
            flight.settle(tag, is_acked=is_acked)


async def open_confirm_channel(
    connection: FilteredConnection, *, user: str, timeout_s: float
) -> ConfirmChannel:
    """Return the one channel of a connection that has no other."""
    if connection.transport is None:
        raise ConnectionResetError("the connection is closed")
    transport = connection.transport.connection
    channel = ConfirmChannel(transport, 1, user=user)
    transport.channels[channel.number] = channel
    connection.frame_filter.route(
        channel.number, {ACK: channel.on_ack, NACK: channel.on_nack, RETURN: channel.on_return}
    )
    await channel.open(timeout=timeout_s)
    return channel


async def _is_settled(connection: FilteredConnection, queue: str) -> bool:
    """Whether a queue is up, or does not exist. Each look has a channel, which a 'no' closes."""
    try:
        await check_queue(await open_channel(connection), queue)
    except QueueDownError:
        return False
    except TopologyError:
        log.warning("queue_not_awaited", queue=queue)
    return True


class Publisher:
    """Publishes persistent, confirmed messages over one connection of its own.

    A memory alarm blocks connections that publish, so consumers have another.
    """

    def __init__(self, url: str, *, name: str, awaited_queue: str | None = None) -> None:
        """`awaited_queue`: nothing is published on a new connection before this queue is up.

        A stream comes up a moment after its broker serves. Until then the broker routes past it,
        and confirms what the other queues have. One that does not exist is not waited for.
        """
        self._url = url
        self._name = name
        self._awaited_queue = awaited_queue
        self._user = user_of(url)
        self._channel: ConfirmChannel | None = None
        self._ready = asyncio.Event()
        self._link = BrokerLink(
            url, name=name, opened=self._take, lost=self._drop, opening=self._open
        )

    async def run(self) -> None:
        """Keep connected until cancelled."""
        await self._link.run()

    @property
    def is_up(self) -> bool:
        """Whether a publish has a channel to go to."""
        return self._channel is not None

    async def wait_until_up(self) -> None:
        """Return as soon as there is a channel."""
        await self._ready.wait()

    async def publish(self, message: Outgoing, *, timeout_s: float) -> None:
        """Return when the broker has the message for sure; raises NotConfirmedError otherwise."""
        await self.publish_all([message], timeout_s=timeout_s)

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout_s: float) -> None:
        """Return when the broker has every message for sure; they leave in their order.

        Raises NotConfirmedError unless all were confirmed: any of them may have arrived then. As a
        RefusedError it says which of them were refused; all others of the call arrived. Calls that
        are made one after the other write one after the other, and do not wait for each other's
        confirms.
        """
        channel = self._channel
        if channel is None:
            raise NotConfirmedError("not connected")
        if not messages:
            return
        try:
            with loss_as_error():
                async with asyncio.timeout(timeout_s):
                    flight = await channel.write(messages)
                    await flight.landed
        except UNREACHABLE as error:
            raise NotConfirmedError(repr(error)) from error
        flight.check()

    async def _open(self, connection: FilteredConnection) -> Channel:
        channel = await open_confirm_channel(
            connection, user=self._user, timeout_s=CONNECT_TIMEOUT_S
        )
        if self._awaited_queue is not None:
            # Once this connection stands: a broker that dies later takes it along.
            await self._await_queue(self._awaited_queue)
        self._channel = channel
        return channel

    async def _await_queue(self, queue: str) -> None:
        """Return when a queue is up, or does not exist; the link bounds the wait."""
        connection = await connect(self._url, name=f"{self._name}-look")
        try:
            # The broker tells nobody when a queue is up.
            while not await _is_settled(connection, queue):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
        finally:
            await close(connection)

    async def _take(self, _: Channel) -> None:
        self._ready.set()

    def _drop(self) -> None:
        self._channel = None
        self._ready.clear()
