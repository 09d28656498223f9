"""Publishing that believes only the broker's Basic.Ack.

A channel of confirms on which many messages are in flight, and the publisher that keeps one open.
"""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from struct import Struct
from typing import Final, Never

import structlog
from aiormq.abc import AbstractConnection as Transport
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel as ClientChannel
from aiormq.exceptions import ChannelInvalidStateError
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
from runtime.amqp.wire.frame_encoder import Outgoing, Route, publish_frames

UNCONFIRMED_MAX: Final = 20_000
"""Messages without a confirm on one channel; a broker that owes more is not given another."""
LOOK_S: Final = 0.05
"""Between two looks at a queue that is not up."""
_TAG_DIGITS: Final = 12
_CONFIRM: Final = Struct(">QB").unpack_from
_MULTIPLE: Final = 1

log = structlog.get_logger()


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


__all__ = ["NotConfirmedError", "Outgoing", "Publisher", "RefusedError", "UnroutableError"]


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
