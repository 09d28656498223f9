"""Lines of a file with their numbers, each of bounded length."""

import codecs
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

LINE_BYTES_MAX: Final = 1024 * 1024
"""The longest line, as long as a body may be."""


class LineError(ValueError):
    """A line that cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its number from 1; `is_cut` says that it was longer, and its rest is skipped."""

    number: int
    content: bytes
    is_cut: bool = False

    def text(self) -> str:
        """Return its text with the line's end; raises LineError."""
        if self.is_cut:
            raise LineError(f"longer than {LINE_BYTES_MAX} bytes")
        try:
            return self.content.decode()
        except UnicodeDecodeError as error:
            raise LineError(f"not UTF-8: byte {error.start + 1} of the line") from None


class Lines:
    """The lines of a stream, read as they are wanted. A byte order mark is no part of the first."""

    bytes_max = LINE_BYTES_MAX

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._put_back: deque[Line] = deque()
        self.number = 0
        """The last line that was read."""

    def next(self) -> Line | None:
        """Return the next line; None at the end."""
        if self._put_back:
            return self._put_back.popleft()
        content = self._stream.readline(LINE_BYTES_MAX + 1)
        if not content:
            return None
        self.number += 1
        if self.number == 1:
            content = content.removeprefix(codecs.BOM_UTF8)
        is_cut = len(content) > LINE_BYTES_MAX
        if is_cut and not content.endswith(b"\n"):
            self._skip_rest()
        return Line(self.number, content, is_cut)

    def put_back(self, lines: Sequence[Line]) -> None:
        """Let these be the next lines once more."""
        self._put_back.extendleft(reversed(lines))

    def _skip_rest(self) -> None:
        while (rest := self._stream.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
            pass
