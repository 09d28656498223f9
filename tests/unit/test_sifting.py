"""The reader that aiormq reads from: what is taken is still a sign of life."""

from pamqp import frame
from pamqp.commands import Basic
from pamqp.heartbeat import Heartbeat

from runtime.sieve import ACK, Sieve
from runtime.sifting import SiftedReader

_ACK = frame.marshal(Basic.Ack(1), 1)
_HEARTBEAT = frame.marshal(Heartbeat(), 0)


def _reader(*, alive_every_s: float) -> SiftedReader:
    sieve = Sieve()
    sieve.take(1, {ACK: lambda *_: None})
    return SiftedReader(sieve, alive_every_s=alive_every_s)


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
