"""A channel whose deliveries arrive without a task, a future or a queue between.

aiormq reads each of a delivery's three frames by itself, builds an object of it, hands it from the
connection's reader to the channel's and runs the consumer's callback as a task: 40 µs. Here the
sieve of the connection calls the consumer. Of aiormq's inside this uses the table `channels` of
the connection; consuming, acks and the broker's cancels stay the library's.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple

from aiormq.abc import AbstractConnection as Transport
from aiormq.channel import Channel

from runtime.amqp.wire.filtered_connection import SiftedConnection
from runtime.amqp.wire.frame_filter import DELIVER
from runtime.amqp.wire.properties import Properties

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
        connection: SiftedConnection,
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
        """Take a delivery from the sieve; its tag stands behind the consumer's name."""
        (tag,) = _TAG(arguments, 1 + arguments[0])
        self._arrived(Arrival(self, tag, Properties(properties), body))


async def open_delivering_channel(
    connection: SiftedConnection, *, arrived: Callable[[Arrival], None], timeout_s: float
) -> DeliveringChannel:
    """Return the one channel of a connection that has no other."""
    if connection.transport is None or connection.transport.connection.is_closed:
        raise ConnectionResetError("the connection is closed")
    transport = connection.transport.connection
    channel = DeliveringChannel(transport, connection, 1, arrived=arrived)
    transport.channels[channel.number] = channel
    connection.sieve.take(channel.number, {DELIVER: channel.on_delivery})
    await channel.open(timeout=timeout_s)
    return channel
