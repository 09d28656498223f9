"""Timelines: which WAL is a server's own history, as PostgreSQL's history files say.

A restored server goes on on a new timeline from where its recovery ended; what the old timeline
has beyond that is a branch that was abandoned. Positions of the WAL are octets from its beginning.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

FIRST_TIMELINE: Final = 1
"""What `initdb` begins with; it has no history file."""
_LEFT: Final = re.compile(r"^\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Span:
    """What was written on one timeline, between two positions; without an end, all that follows."""

    timeline: int
    begin: int
    end: int | None = None

    def meets(self, begin: int, end: int) -> bool:
        """Return whether some of what lies between two positions belongs to it."""
        return self.begin < end and (self.end is None or begin < self.end)


@dataclass(frozen=True, slots=True)
class Line:
    """The one history of a server: its timeline, and before it those that it came from."""

    spans: tuple[Span, ...]

    @property
    def timeline(self) -> int:
        """The timeline at its end."""
        return self.spans[-1].timeline

    @property
    def left(self) -> "Line | None":
        """What it was before its newest timeline, up to where that begins; None for the first."""
        return Line(self.spans[:-1]) if len(self.spans) > 1 else None

    def holds(self, other: "Line", until: int) -> bool:
        """Return whether all that a server of another line had by a position is part of this."""
        own = self.spans[: len(other.spans)]
        if _beginnings(own) != _beginnings(other.spans):
            return False
        return own[-1].end is None or until <= own[-1].end

    def meeting(self, begin: int, end: int) -> Iterator[Span]:
        """Give the spans that lie between two positions, newest first."""
        return (span for span in reversed(self.spans) if span.meets(begin, end))

    def continues(self, timeline: int, position: int) -> bool:
        """Return whether what a timeline has just before a position is part of this."""
        spans = (span for span in self.spans if span.timeline == timeline)
        return any(span.end is None or position <= span.end for span in spans)


def line_of(timeline: int, history: str) -> Line:
    """Return a timeline's line by its history file, which is empty for the first timeline.

    A recovery that was aimed at a younger timeline may have ended on an older one: then the file
    leaves the younger one earlier than it began, which here is no part of the line.
    """
    ended = [(int(number), position_of(left)) for number, left in _LEFT.findall(history)]
    spans = [Span(timeline, ended[-1][1] if ended else 0)]
    for index in reversed(range(len(ended))):
        begin = ended[index - 1][1] if index else 0
        end = spans[0].begin
        if begin < end:
            spans.insert(0, Span(ended[index][0], begin, end))
    return Line(tuple(spans))


def position_of(text: str) -> int:
    """Return the position that PostgreSQL writes as `16/B374D848`."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def position_text(position: int) -> str:
    """Return a position as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def _beginnings(spans: tuple[Span, ...]) -> list[tuple[int, int]]:
    return [(span.timeline, span.begin) for span in spans]
