"""Recent batches are bounded: the oldest is forgotten, and read from the tables instead."""

from datetime import UTC, datetime
from uuid import UUID

from processor.recent import RECENT_MAX, RecentBatch, RecentPostings

_BATCH = RecentBatch({}, {}, datetime(2026, 1, 1, tzinfo=UTC))


def _recent(batches: int) -> RecentPostings:
    recent = RecentPostings()
    for number in range(batches):
        recent.keep(UUID(int=number), _BATCH)
    return recent


def test_the_oldest_is_forgotten_beyond_the_bound() -> None:
    recent = _recent(RECENT_MAX + 1)

    assert recent.get(UUID(int=0)) is None
    assert all(recent.get(UUID(int=1 + number)) is _BATCH for number in range(RECENT_MAX))


def test_what_was_told_is_let_go_and_what_never_was_here_costs_nothing() -> None:
    recent = _recent(2)
    recent.forget([UUID(int=0), UUID(int=7)])

    assert [recent.get(UUID(int=number)) for number in range(2)] == [None, _BATCH]
