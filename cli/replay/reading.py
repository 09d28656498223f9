"""Reading CSV and JSON lines as a stream: a row at a time, whatever the size of the file."""

import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final

from cli.escaping import printable
from cli.failures import UsageError
from cli.replay.csv_records import BadRecord, CsvRecord, CsvRecords
from cli.replay.lines import Line, LineError, Lines
from cli.replay.mapping import ColumnMapping, Field, Record
from contracts.json import decode_json

STANDARD_INPUT: Final = "-"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_DAMAGED: Final = (EOFError, gzip.BadGzipFile, zlib.error)
_WALLETS: Final = (Field.WALLET, Field.SOURCE_WALLET_ID, Field.DESTINATION_WALLET_ID)


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
