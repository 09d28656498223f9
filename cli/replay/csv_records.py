"""CSV as RFC 4180 has it and nothing else: what is not exactly that is told, never guessed at.

The csv module reads digits behind a closing quote as part of the value, and rows behind a quote
that nobody closes as one value. Where rows are money, both are errors of the line on which the
value begins.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cli.replay.lines import Line, LineError, Lines

RECORD_LINES_MAX: Final = 100
"""Lines of one quoted value: each stray quote makes so many lines be looked at once more."""

Suspicion = Callable[[Sequence[str]], bool]
"""Whether the cells of a line within a quoted value read as a row of their own."""


class RecordError(ValueError):
    """Lines that are no record; the message says why."""


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """A record and the line on which it begins."""

    line: int
    values: list[str]


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A line on which no record begins, and why."""

    line: int
    reason: str


class CsvRecords:
    """The records of a file, one after the other. `width` is the number of columns, once known."""

    def __init__(self, lines: Lines, *, delimiter: str, reads_as_row: Suspicion) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self._reads_as_row = reads_as_row
        separator = re.escape(delimiter)
        # One value and what ends it. Possessive, so that no text takes more than one look.
        self._value: Final = re.compile(
            rf'(?:"([^"]*+(?:""[^"]*+)*+)"|([^"{separator}\r\n]*+))({separator}|\Z)'
        )
        self.width: int | None = None

    def __iter__(self) -> Iterator[CsvRecord | BadRecord]:
        while (line := self._lines.next()) is not None:
            try:
                text = line.text()
                if '"' in text:
                    yield CsvRecord(line.number, self._quoted(line, text))
                elif plain := _without_end(text):
                    yield CsvRecord(line.number, self._of_width(self._plain(plain)))
            except (LineError, RecordError) as error:
                yield BadRecord(line.number, str(error))

    def _plain(self, text: str) -> list[str]:
        if "\r" in text:
            raise RecordError("a carriage return outside of quotes")
        return text.split(self._delimiter)

    def _quoted(self, first: Line, text: str) -> list[str]:
        """Return a record that begins on a line with a quote.

        If the lines to the closing quote are no record, the first one alone is to blame: the others
        are read for themselves.
        """
        following = self._to_closing_quote(text)
        try:
            record = _without_end("".join([text, *(line.text() for line in following)]))
            values = self._of_width(self._values(record))
        except (LineError, RecordError):
            self._lines.put_back(following)
            raise
        if self.width is not None:
            self._check_for_rows(first, values)
        return values

    def _to_closing_quote(self, text: str) -> list[Line]:
        """Return the lines up to the one that makes the number of quotes even."""
        following: list[Line] = []
        is_open, size = text.count('"') % 2 == 1, len(text)
        while is_open and len(following) < RECORD_LINES_MAX:
            line = self._lines.next()
            if line is None:
                break
            following.append(line)
            size += len(line.content)
            if line.is_cut or size > self._lines.bytes_max:
                break
            is_open = line.content.count(b'"') % 2 == 0
        return following

    def _values(self, record: str) -> list[str]:
        values: list[str] = []
        position = 0
        while match := self._value.match(record, position):
            quoted, plain, end = match.groups()
            values.append(plain if quoted is None else quoted.replace('""', '"'))
            position = match.end()
            if not end:
                return values
        column = len(values) + 1
        if record.count('"') % 2:
            within = f"within {RECORD_LINES_MAX} lines"
            raise RecordError(f"column {column}: a quote is opened and not closed {within}")
        raise RecordError(f"column {column}: a quote within a value, or text beside a quoted one")

    def _of_width(self, values: list[str]) -> list[str]:
        if self.width is not None and len(values) != self.width:
            raise RecordError(f"{len(values)} columns, the header has {self.width}")
        return values

    def _check_for_rows(self, first: Line, values: Sequence[str]) -> None:
        """Refuse what two stray quotes make of the rows between them. They are not read at all."""
        for column, value in enumerate(values, start=1):
            for inner in value.split("\n")[1:]:
                cells = inner.split(self._delimiter)
                if len(cells) >= column and self._reads_as_row(cells):
                    raise RecordError(
                        f"column {column}: the quoted value that begins on line {first.number} "
                        "holds a line that reads as a row of its own"
                    )


def _without_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")
