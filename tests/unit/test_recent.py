"""Recent batches are bounded by what they hold: the oldest is forgotten, and read again instead."""

from datetime import UTC, datetime
from uuid import UUID

from processor.ledger import Posted
from processor.recent import RECENT_MAX, RecentBatch, RecentPostings

_SIZE = 512
_POSTED = [
    Posted(UUID(int=number), UUID(int=1), UUID(int=2), 1, 1, 1, 0, 0) for number in range(_SIZE)
]
_BATCH = RecentBatch({}, _POSTED, datetime(2026, 1, 1, tzinfo=UTC))


def _recent(batches: int) -> RecentPostings:
    recent = RecentPostings()
    for number in range(batches):
        recent.keep(UUID(int=number), _BATCH)
    return recent


def test_the_oldest_is_forgotten_beyond_the_bound() -> None:
    most = RECENT_MAX // _SIZE
    recent = _recent(most + 1)

    assert recent.get(UUID(int=0)) is None
    assert all(recent.get(UUID(int=1 + number)) is _BATCH for number in range(most))


def test_what_was_told_makes_room() -> None:
    most = RECENT_MAX // _SIZE
    recent = _recent(most)
    recent.forget([UUID(int=1)])
    recent.keep(UUID(int=most), _BATCH)

    assert recent.get(UUID(int=0)) is _BATCH


def test_what_was_told_is_let_go_and_what_never_was_here_costs_nothing() -> None:
    recent = _recent(2)
    recent.forget([UUID(int=0), UUID(int=7)])

    assert [recent.get(UUID(int=number)) for number in range(2)] == [None, _BATCH]
