"""Recent batches are bounded by what they hold: posting waits for a relay that makes progress."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from ledger.state import Posted
from processor.events.buffer import PATIENCE_S, RECENT_MAX, BufferedBatch, EventBuffer

_SIZE = 512
_MOST = RECENT_MAX // _SIZE
_POSTED = [
    Posted(UUID(int=number), UUID(int=1), UUID(int=2), 1, 1, 1, 0, 0) for number in range(_SIZE)
]
_BATCH = BufferedBatch({}, _POSTED, datetime(2026, 1, 1, tzinfo=UTC))


def _event_buffer(batches: int) -> EventBuffer:
    event_buffer = EventBuffer()
    for number in range(batches):
        event_buffer.keep(UUID(int=number), _BATCH)
    return event_buffer


async def test_there_is_room_below_the_bound() -> None:
    async with asyncio.timeout(PATIENCE_S / 2):
        await _event_buffer(_MOST - 1).room()


async def test_beyond_the_bound_posting_waits_until_something_is_told() -> None:
    event_buffer = _event_buffer(_MOST)
    waiting = asyncio.ensure_future(event_buffer.room())
    await asyncio.sleep(0)
    was_waiting = not waiting.done()
    event_buffer.forget(UUID(int=0))
    await waiting

    assert was_waiting
    assert event_buffer.get(UUID(int=1)) is _BATCH


async def test_a_relay_that_stands_still_is_not_waited_for() -> None:
    event_buffer = _event_buffer(_MOST)
    async with asyncio.timeout(5 * PATIENCE_S):
        await event_buffer.room()

    assert event_buffer.get(UUID(int=0)) is None


async def test_what_another_relay_told_of_makes_room_too() -> None:
    event_buffer = _event_buffer(_MOST)
    event_buffer.forget(UUID(int=_MOST - 1))
    event_buffer.keep(UUID(int=_MOST), _BATCH)

    async with asyncio.timeout(PATIENCE_S / 2):
        await event_buffer.room()
    assert event_buffer.get(UUID(int=0)) is None


def test_what_was_told_is_let_go_and_what_never_was_here_costs_nothing() -> None:
    event_buffer = _event_buffer(2)
    event_buffer.forget(UUID(int=7))
    event_buffer.forget(UUID(int=0))

    assert [event_buffer.get(UUID(int=number)) for number in range(2)] == [None, _BATCH]
