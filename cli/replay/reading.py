"""Reading CSV and JSON lines as a stream: a row at a time, whatever the size of the file.

CSV is as RFC 4180 has it and nothing else: what is not exactly that is told, never guessed at. The
csv module reads digits behind a closing quote as part of the value, and rows behind a quote that
nobody closes as one value. Where rows are money, both are errors of the line on which the value
begins.
"""

import codecs
import contextlib
import gzip
import io
import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final

from cli.escaping import printable
from cli.failures import UsageError
from cli.replay.mapping import ColumnMapping, Field, Record
from contracts.json import decode_json

LINE_BYTES_MAX: Final = 1024 * 1024
"""The longest line, as long as a body may be."""
RECORD_LINES_MAX: Final = 100
"""Lines of one quoted value: each stray quote makes so many lines be looked at once more."""
Suspicion = Callable[[Sequence[str]], bool]
"""Whether the cells of a line within a quoted value read as a row of their own."""
STANDARD_INPUT: Final = "-"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_DAMAGED: Final = (EOFError, gzip.BadGzipFile, zlib.error)
_WALLETS: Final = (Field.WALLET, Field.SOURCE_WALLET_ID, Field.DESTINATION_WALLET_ID)


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


class FileFormat(StrEnum):
    """What the lines of a file are."""

    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no transaction, and why."""

    line: int
    reason: str


class Source:
    """A file, or standard input, and how far it has been read. gzip is recognised by its bytes."""

    def __init__(self, path: str, *, file_format: FileFormat | None, delimiter: str = ",") -> None:
        """Open it; raises UsageError when that is impossible or its format cannot be told."""
        self._delimiter = delimiter
        self._format = file_format or _format_of(path)
        try:
            # A descriptor of our own: a reading thread must not hold sys.stdin when Python ends.
            raw = os.dup(0) if path == STANDARD_INPUT else path
            self._raw = io.BufferedReader(io.FileIO(raw))
            self.size = None if path == STANDARD_INPUT else Path(path).stat().st_size
            is_packed = self._raw.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        packed: BinaryIO = self._raw
        self._bytes: BinaryIO = gzip.GzipFile(fileobj=packed) if is_packed else packed  # type: ignore[assignment]

    @property
    def position(self) -> int:
        """How many bytes of the file have been read, packed as they are; 0 for a pipe."""
        with contextlib.suppress(OSError, ValueError):
            return self._raw.tell()
        return 0

    def close(self) -> None:
        """Give the file back."""
        self._bytes.close()
        self._raw.close()

    def rows(self, mapping: ColumnMapping) -> Iterator[Record | BadRow]:
        """Yield each row; raises UsageError when a CSV's header does not serve the mapping.

        A row that cannot be read is yielded as such. A damaged gzip file ends with a bad row.
        """
        lines = Lines(self._bytes)
        try:
            if self._format is FileFormat.CSV:
                yield from self._csv(lines, mapping)
            else:
                yield from _jsonl(lines)
        except _DAMAGED as error:
            yield BadRow(lines.number + 1, f"the file is damaged from here on: {error}")

    def _csv(self, lines: Lines, mapping: ColumnMapping) -> Iterator[Record | BadRow]:
        def reads_as_row(cells: Sequence[str]) -> bool:
            return len(cells) > type_index and mapping.type_of(cells[type_index]) is not None

        records = CsvRecords(lines, delimiter=self._delimiter, reads_as_row=reads_as_row)
        rows = iter(records)
        header = _header(next(rows, None))
        _check_header(header, mapping)
        records.width = len(header)
        type_index = header.index(mapping.column_of(Field.TYPE))
        for row in rows:
            if isinstance(row, BadRecord):
                yield BadRow(row.line, row.reason)
            else:
                yield Record(row.line, dict(zip(header, row.values, strict=True)))


def _jsonl(lines: Lines) -> Iterator[Record | BadRow]:
    while (line := lines.next()) is not None:
        if line.content.strip():
            yield _json_row(line)


def _json_row(line: Line) -> Record | BadRow:
    try:
        values = decode_json(line.text().encode())
    except LineError as error:
        return BadRow(line.number, str(error))
    except ValueError as error:
        return BadRow(line.number, f"not JSON: {error}")
    if not isinstance(values, dict):
        return BadRow(line.number, "not a JSON object")
    return Record(line.number, values)


def _format_of(path: str) -> FileFormat:
    """CSV or JSON lines, by the name without `.gz`."""
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        return FileFormat.CSV
    if suffix in (".jsonl", ".ndjson", ".json"):
        return FileFormat.JSONL
    raise UsageError(f"{path}: say what it holds with --format csv or --format jsonl")


def _header(first: CsvRecord | BadRecord | None) -> list[str]:
    if first is None:
        raise UsageError("the file is empty: a CSV begins with a header that names its columns")
    if isinstance(first, BadRecord):
        raise UsageError(f"line {first.line}, the header: {first.reason}")
    return [name.strip() for name in first.values]


def _check_header(header: list[str], mapping: ColumnMapping) -> None:
    it_has = f"it has: {printable(', '.join(header))}"
    missing = sorted(set(mapping.columns.values()) - set(header))
    if missing:
        raise UsageError(f"the file has no column {', '.join(missing)}; {it_has}")
    for name in _required(mapping):
        column = mapping.column_of(name)
        if column not in header:
            raise UsageError(
                f"the file has no column '{column}': say which one holds it with "
                f"--map {name}=COLUMN; {it_has}"
            )
    if not any(mapping.column_of(name) in header for name in _WALLETS):
        raise UsageError(
            "the file has no column 'wallet', 'source_wallet_id' or 'destination_wallet_id': "
            f"say which one names the wallet with --map wallet=COLUMN; {it_has}"
        )
    for name in Field:
        if header.count(mapping.column_of(name)) > 1:
            raise UsageError(f"the file has the column '{mapping.column_of(name)}' twice")


def _required(mapping: ColumnMapping) -> Iterator[Field]:
    yield from (Field.IDEMPOTENCY_KEY, Field.TYPE, Field.AMOUNT)
    if mapping.currency is None:
        yield Field.CURRENCY
