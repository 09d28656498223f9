"""Recent batches are bounded by what they hold: posting waits for a relay that makes progress."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from ledger.state import Posted
from processor.recent import PATIENCE_S, RECENT_MAX, RecentBatch, RecentPostings

_SIZE = 512
_MOST = RECENT_MAX // _SIZE
_POSTED = [
    Posted(UUID(int=number), UUID(int=1), UUID(int=2), 1, 1, 1, 0, 0) for number in range(_SIZE)
]
_BATCH = RecentBatch({}, _POSTED, datetime(2026, 1, 1, tzinfo=UTC))


def _recent(batches: int) -> RecentPostings:
    recent = RecentPostings()
    for number in range(batches):
        recent.keep(UUID(int=number), _BATCH)
    return recent


async def test_there_is_room_below_the_bound() -> None:
    async with asyncio.timeout(PATIENCE_S / 2):
        await _recent(_MOST - 1).room()


async def test_beyond_the_bound_posting_waits_until_something_is_told() -> None:
    recent = _recent(_MOST)
    waiting = asyncio.ensure_future(recent.room())
    await asyncio.sleep(0)
    was_waiting = not waiting.done()
    recent.forget(UUID(int=0))
    await waiting

    assert was_waiting
    assert recent.get(UUID(int=1)) is _BATCH


async def test_a_relay_that_stands_still_is_not_waited_for() -> None:
    recent = _recent(_MOST)
    async with asyncio.timeout(5 * PATIENCE_S):
        await recent.room()

    assert recent.get(UUID(int=0)) is None


async def test_what_another_relay_told_of_makes_room_too() -> None:
    recent = _recent(_MOST)
    recent.forget(UUID(int=_MOST - 1))
    recent.keep(UUID(int=_MOST), _BATCH)

    async with asyncio.timeout(PATIENCE_S / 2):
        await recent.room()
    assert recent.get(UUID(int=0)) is None


def test_what_was_told_is_let_go_and_what_never_was_here_costs_nothing() -> None:
    recent = _recent(2)
    recent.forget(UUID(int=7))
    recent.forget(UUID(int=0))

    assert [recent.get(UUID(int=number)) for number in range(2)] == [None, _BATCH]
