"""The reader that aiormq reads from: what is taken is still a sign of life."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pamqp import frame
from pamqp.commands import Basic
from pamqp.heartbeat import Heartbeat

from runtime.amqp.incoming import ACK, FilteredReader, FrameFilter

_ACK = frame.marshal(Basic.Ack(1), 1)
_HEARTBEAT = frame.marshal(Heartbeat(), 0)


def _reader(*, alive_every_s: float) -> FilteredReader:
    frame_filter = FrameFilter()
    frame_filter.route(1, {ACK: lambda *_: None})
    return FilteredReader(frame_filter, alive_every_s=alive_every_s)


async def test_data_that_is_all_taken_is_shown_as_a_heartbeat() -> None:
    reader = _reader(alive_every_s=0)

    reader.feed_data(_ACK)
    reader.feed_eof()

    assert await reader.read() == _HEARTBEAT


async def test_it_is_shown_once_in_a_while() -> None:
    reader = _reader(alive_every_s=60)

    for _ in range(3):
        reader.feed_data(_ACK)
    reader.feed_data(_HEARTBEAT[:4])
    reader.feed_data(_HEARTBEAT[4:] + _ACK)
    reader.feed_eof()

    assert await reader.read() == _HEARTBEAT


async def test_a_stream_that_breaks_off_shows_what_had_come() -> None:
    reader = _reader(alive_every_s=60)

    reader.feed_data(_ACK + _ACK[:5])
    reader.feed_eof()

    assert await reader.read() == _ACK[:5]


@asynccontextmanager
async def _connected(
    reader: FilteredReader,
) -> AsyncIterator[asyncio.StreamWriter]:
    """Let the reader read a real socket; gives what writes to it."""
    peers: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: peers.put(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(
        lambda: asyncio.StreamReaderProtocol(reader), "127.0.0.1", port
    )
    peer = await peers.get()
    try:
        yield peer
    finally:
        transport.abort()
        peer.transport.abort()
        server.close()


def _held_reader(
    taken: "asyncio.Queue[int]", *, may_sip: bool, sip_every_s: float = 0.05
) -> FilteredReader:
    """A reader that is told to hold by each confirm that it takes."""
    holds: list[Callable[[], None]] = []

    def take(arguments: bytes, *_: bytes) -> None:
        taken.put_nowait(int.from_bytes(arguments[:8], "big"))
        holds[0]()

    frame_filter = FrameFilter()
    frame_filter.route(1, {ACK: take})
    reader = FilteredReader(frame_filter, alive_every_s=0.01, sip_every_s=sip_every_s)
    holds.append(lambda: reader.hold(may_sip=may_sip))
    return reader


async def test_a_reader_that_is_held_takes_nothing_and_counts_as_alive_until_it_is_released() -> (
    None
):
    taken: asyncio.Queue[int] = asyncio.Queue()
    reader = _held_reader(taken, may_sip=False)
    async with _connected(reader) as peer, asyncio.timeout(10):
        peer.write(_ACK)
        await taken.get()
        peer.write(frame.marshal(Basic.Ack(2), 1))
        # Ten signs of life, in which there was time to read what came.
        alive = await reader.readexactly(10 * len(_HEARTBEAT))
        is_read = not taken.empty()
        reader.release()
        second = await taken.get()
        reader.release()

    assert alive == 10 * _HEARTBEAT
    assert not is_read
    assert second == 2


async def test_a_reader_that_may_sip_takes_a_little_now_and_then() -> None:
    taken: asyncio.Queue[int] = asyncio.Queue()
    reader = _held_reader(taken, may_sip=True)
    async with _connected(reader) as peer, asyncio.timeout(10):
        peer.write(_ACK)
        await taken.get()
        peer.write(frame.marshal(Basic.Ack(2), 1))
        second = await taken.get()
        peer.write(frame.marshal(Basic.Ack(3), 1))
        third = await taken.get()
        reader.release()

    assert (second, third) == (2, 3)
