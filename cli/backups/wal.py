"""The folder into which WAL is taken: its segments, of every timeline, and their histories."""

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.backups.timelines import FIRST_TIMELINE, Line, Span, line_of

EARLIER: Final = "earlier"
"""Where segments are put that are not to be continued: of a branch that a restore left, or before
a gap. `pg_receivewal` goes on after the last segment that it sees, of whatever timeline."""
_SEGMENT: Final = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")
_HISTORY: Final = re.compile(r"([0-9A-F]{8})\.history")
_SMALLEST: Final = 8
"""What is written begins at a multiple of so many octets, and is not zeros at its beginning."""
_FIRST_HEADER: Final = struct.Struct("=HHIQIIqI")
"""Of a segment's first page: magic, flags, timeline, position, what remains of a record, padding,
the system identifier, the segment's size."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of WAL of one timeline; a partial one is as long as any, and ends in zeros."""

    path: Path
    timeline: int
    start: int
    end: int
    is_partial: bool

    def has(self, position: int) -> bool:
        """Return whether it was taken beyond a position in it: what follows is zeros yet."""
        with self.path.open("rb") as file:
            file.seek(position - self.start)
            return any(file.read(_SMALLEST))

    @property
    def next_start(self) -> int:
        """From where `pg_receivewal` goes on after it: a partial one is begun anew."""
        return self.start if self.is_partial else self.end


@dataclass(frozen=True, slots=True)
class Chosen:
    """A segment of a line, and the timeline as whose the server reads it.

    Beyond `until` it has what is no part of the line.
    """

    segment: Segment
    timeline: int
    until: int | None

    @property
    def name(self) -> str:
        """Its name as the server asks for it."""
        return f"{self.timeline:08X}{self.segment.path.name[8:24]}"

    def copy_to(self, folder: Path, size: int) -> None:
        """Copy it, whole in length and with zeros for what does not belong to the line."""
        target = folder / self.name
        target.write_bytes(self.segment.path.read_bytes())
        if self.until is not None:
            os.truncate(target, self.until - self.segment.start)
        os.truncate(target, size)


@dataclass(frozen=True, slots=True)
class Selection:
    """The WAL of a line from a position on, without a gap."""

    segments: tuple[Chosen, ...]
    end: int
    """Where the last segment ends."""
    after_gap: Segment | None
    """The first segment of the line that cannot be reached, if any."""


class WalFolder:
    """The segments in some folders: of two copies of one, the first folder's counts."""

    def __init__(self, *folders: Path, size: int) -> None:
        self.size = size
        self._folders = folders

    def segments(self) -> list[Segment]:
        """Return all segments, in the order of their positions."""
        found = [
            _segment_of(path, self.size)
            for folder in self._folders
            for path in (folder.iterdir() if folder.is_dir() else ())
            if _SEGMENT.fullmatch(path.name)
        ]
        return sorted(found, key=lambda one: (one.start, one.timeline))

    def select(self, line: Line, start: int) -> Selection:
        """Return what a server needs to recover along a line, from a position on."""
        by_place: dict[tuple[int, int], Segment] = {}
        # Of a whole and a partial copy the whole one has more.
        for one in sorted(self.segments(), key=lambda one: one.is_partial):
            by_place.setdefault((one.timeline, one.start), one)
        position = start - start % self.size
        chosen = []
        while (found := self._find(by_place, line, position)) is not None:
            chosen.append(found)
            position += self.size
        later = [
            one
            for one in by_place.values()
            if one.start > position and line.continues(one.timeline, one.start + 1)
        ]
        return Selection(
            tuple(chosen), position, min(later, key=lambda one: one.start, default=None)
        )

    def _find(
        self, by_place: dict[tuple[int, int], Segment], line: Line, start: int
    ) -> Chosen | None:
        end = start + self.size
        spans = list(line.meeting(start, end))
        found = [
            (span, segment)
            for span in spans
            if (segment := by_place.get((span.timeline, start))) is not None
        ]
        for span, segment in found:
            # The segment in which a timeline begins has what was before: all of it, or it is none.
            if span.begin <= start or segment.has(span.begin):
                is_cut = span.end is not None and span.end < end
                return Chosen(segment, span.timeline, span.end if is_cut else None)
        # Of a timeline that was only begun to be taken: what there is belongs to the one before.
        return Chosen(found[-1][1], spans[-1].timeline, None) if found else None

    def set_aside(self, segments: Sequence[Segment]) -> None:
        """Move segments out of the way of `pg_receivewal`; they can still be restored."""
        for one in segments:
            folder = one.path.parent / EARLIER
            folder.mkdir(mode=0o700, exist_ok=True)
            # A copy that is there already was taken before the branch was left, and has more.
            if (folder / one.path.name).exists():
                one.path.unlink()
            else:
                one.path.rename(folder / one.path.name)

    def begin_timeline(self, line: Line) -> None:
        """Have `pg_receivewal` begin a younger timeline that the line comes to in the next segment.

        The segment in which a timeline begins has what the one before had in it, which the server
        may have removed already.
        """
        if not (segments := self.segments()):
            return
        start = segments[-1].next_start
        timeline = next(line.meeting(start, start + self.size)).timeline
        if timeline > segments[-1].timeline:
            digits = f"{start >> 32:08X}{(start & 0xFFFFFFFF) // self.size:08X}"
            # Empty: it goes on after the last one of the youngest timeline, and fills it.
            (self._folders[0] / f"{timeline:08X}{digits}.partial").touch(mode=0o600)


def off_line(segments: Sequence[Segment], line: Line) -> list[Segment]:
    """Return those after which a server of this line cannot go on.

    A whole segment is gone on after from its end, a partial one is begun anew from its start.
    """
    return [
        one
        for one in segments
        if not line.continues(one.timeline, one.start + 1 if one.is_partial else one.end)
    ]


def lines_in(*folders: Path) -> dict[int, Line]:
    """Return the timelines that are known, by the history files in folders; the first one always.

    Where two folders know one of the same number, the first folder's counts.
    """
    lines = {FIRST_TIMELINE: Line((Span(FIRST_TIMELINE, 0),))}
    for path in history_files(*folders).values():
        timeline = int(path.stem, 16)
        lines[timeline] = line_of(timeline, path.read_text(encoding="utf-8"))
    return lines


def history_files(*folders: Path) -> dict[str, Path]:
    """Return the history files in folders by name, the first folder's before another's."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.history")):
            if _HISTORY.fullmatch(path.name):
                found.setdefault(path.name, path)
    return found


def save_history(folder: Path, timeline: int, history: str) -> None:
    """Write a timeline's history file, whole or not at all."""
    path = folder / history_name(timeline)
    draft = path.with_suffix(".draft")
    draft.write_text(history, encoding="utf-8")
    draft.replace(path)


def history_name(timeline: int) -> str:
    """Return the name of a timeline's history file."""
    return f"{timeline:08X}.history"


def system_of(folder: Path) -> int | None:
    """Return the system identifier of the server whose WAL a folder holds, if it holds any."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _SEGMENT.fullmatch(path.name):
            with path.open("rb") as file:
                head = file.read(_FIRST_HEADER.size)
            if len(head) == _FIRST_HEADER.size and any(head):
                return int(_FIRST_HEADER.unpack(head)[6])
    return None


def mend_partials(folder: Path, size: int) -> None:
    """Give partial segments their length: where a disk was full, they are shorter, and useless."""
    for path in folder.glob("*.partial"):
        if _SEGMENT.fullmatch(path.name) and path.stat().st_size != size:
            os.truncate(path, size)


def _segment_of(path: Path, size: int) -> Segment:
    timeline, high, low, is_partial = _SEGMENT.fullmatch(path.name).groups()  # type: ignore[union-attr]
    start = (int(high, 16) << 32) + int(low, 16) * size
    return Segment(path, int(timeline, 16), start, start + size, bool(is_partial))
