"""Reading a stream: a queue that keeps what was read, and is read from any offset on.

Offsets only grow and have gaps, one at the end of each segment at least. An offset past the end is
accepted, and then nothing comes until the stream has grown to it (measured on 3.10.8 and 4.3.6):
whoever names one has to know that it is there.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, Literal, NamedTuple

from runtime.amqp.connection import CONNECT_TIMEOUT_S, close, connect, loss_as_error
from runtime.amqp.incoming import Arrival, DeliveringChannel, open_delivering_channel
from runtime.amqp.topology import check_queue

Start = int | datetime | Literal["first", "last", "next"]
"""An offset, a moment, or the broker's word; "last" is the last chunk, which may hold several
messages, and a moment begins with the chunk that holds it."""
OFFSET_HEADER: Final = "x-stream-offset"


class StreamMessage(NamedTuple):
    """A message and where it stands."""

    offset: int
    body: bytes


class Stream:
    """What one consumer of a stream was delivered and nobody took yet: `prefetch` at the most."""

    def __init__(self, prefetch: int) -> None:
        self._prefetch = prefetch
        self._waiting: deque[Arrival] = deque()
        self._arrived = asyncio.Event()
        self._taken: Arrival | None = None
        self._acked_tag = 0
        self._is_ended = False
        self.count = 0
        """How many messages there were some seconds before it was opened: the broker counts them
        now and then, and says none of a stream that has just got its first."""

    def arrived(self, arrival: Arrival) -> None:
        """Take a delivery."""
        self._waiting.append(arrival)
        self._arrived.set()

    def end(self, _: object = None) -> None:
        """Deliver no more: the channel is gone, or the broker ended the consumer."""
        self._is_ended = True
        self._arrived.set()

    async def take(self) -> list[StreamMessage]:
        """Return what waits, in its order, at least one message. May be cancelled.

        Raises ConnectionResetError once the stream has ended and all of it was taken.
        """
        await self._make_room()
        while not self._waiting:
            if self._is_ended:
                raise ConnectionResetError("the stream's consumer has ended")
            self._arrived.clear()
            await self._arrived.wait()
        taken, self._waiting = self._waiting, deque()
        self._taken = taken[-1]
        return [
            StreamMessage(arrival.properties.headers[OFFSET_HEADER], arrival.body)
            for arrival in taken
        ]

    async def _make_room(self) -> None:
        """Ack what was taken, once it is half of what may be in hand: one by one costs more."""
        last = self._taken
        if last is None or (last.tag - self._acked_tag) * 2 < self._prefetch or self._is_ended:
            return
        self._acked_tag = last.tag
        with loss_as_error():
            await last.channel.basic_ack(last.tag, multiple=True, wait=False)


@asynccontextmanager
async def open_stream(
    url: str, queue: str, *, name: str, start: Start, prefetch: int
) -> AsyncIterator[Stream]:
    """Read a stream on a connection of its own, as long as the block lasts.

    Raises TopologyError where there is no such queue, and one of UNREACHABLE.
    """
    connection = await connect(url, name=name)
    try:
        stream = Stream(prefetch)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            with loss_as_error():
                channel = await open_delivering_channel(
                    connection, arrived=stream.arrived, timeout_s=CONNECT_TIMEOUT_S
                )
                await _consume(channel, stream, queue, start=start, prefetch=prefetch)
        yield stream
    finally:
        await close(connection)


async def _consume(
    channel: DeliveringChannel, stream: Stream, queue: str, *, start: Start, prefetch: int
) -> None:
    asyncio.ensure_future(channel.closing).add_done_callback(stream.end)
    channel.on_consumer_cancel_callbacks.add(stream.end)
    stream.count = await check_queue(channel, queue)
    await channel.basic_qos(prefetch_count=prefetch)
    await channel.basic_consume(queue, _never_called, arguments={OFFSET_HEADER: start})


async def _never_called(_: object) -> None:
    """The frame filter takes deliveries before the library sees them."""
