"""The last events of the log, in memory: one copy for all who follow."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from runtime.event_log.event import LoggedEvent, LogPosition

EVENTS_MAX: Final = 10_000
OCTETS_MAX: Final = 32 * 1024 * 1024
"""Of their bodies; decoded they take some five times as much."""
_FORGOTTEN_AT_ONCE: Final = 4
"""One part in so many is forgotten at a time: a list is cut at its front by moving the rest."""


class Ring:
    """Events in the order of the log. Each has a number, which grows by one: offsets have gaps."""

    def __init__(self, *, events_max: int = EVENTS_MAX, octets_max: int = OCTETS_MAX) -> None:
        self._events: list[LoggedEvent] = []
        self._events_max = events_max
        self._octets_max = octets_max
        self._octets = 0
        self.first_number = 0
        """Of the oldest event that is here."""

    @property
    def next_number(self) -> int:
        """What the next event will have."""
        return self.first_number + len(self._events)

    @property
    def first(self) -> LoggedEvent | None:
        """The oldest event that is here."""
        return self._events[0] if self._events else None

    @property
    def last(self) -> LoggedEvent | None:
        """The newest event that is here."""
        return self._events[-1] if self._events else None

    @property
    def last_position(self) -> LogPosition | None:
        """Of the newest event that is here."""
        return self._events[-1].position if self._events else None

    def append(self, event: LoggedEvent) -> None:
        """Add the newest event; the oldest may go."""
        self._events.append(event)
        self._octets += len(event.body)
        if len(self._events) > self._events_max or self._octets > self._octets_max:
            self._forget(-(-len(self._events) // _FORGOTTEN_AT_ONCE))

    def clear(self) -> None:
        """Forget all, and give none of their numbers again."""
        self._forget(len(self._events))

    def since(self, number: int, count: int) -> Sequence[LoggedEvent]:
        """Return so many events from one on; raises LookupError where that is forgotten."""
        start = number - self.first_number
        if start < 0:
            raise LookupError(number)
        return self._events[start : start + count]

    def number_after(self, position: LogPosition) -> int | None:
        """Return the number of the event after one that is here; None where that one is not."""
        at = bisect_left(self._events, position.place, key=lambda one: one.position.place)
        if at < len(self._events) and self._events[at].position == position:
            return self.first_number + at + 1
        return None

    def _forget(self, count: int) -> None:
        gone, self._events = self._events[:count], self._events[count:]
        self.first_number += len(gone)
        self._octets -= sum(len(one.body) for one in gone)
