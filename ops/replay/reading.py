"""Reading CSV and JSON lines as a stream: a row at a time, whatever the size of the file."""

import contextlib
import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final

from contracts.json_text import decode_json
from ops.failures import UsageError
from ops.replay.mapping import ColumnMapping, Record

LINE_BYTES_MAX: Final = 1024 * 1024
"""The longest line of JSON, as long as a body may be."""
STANDARD_INPUT: Final = "-"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_DAMAGED: Final = (EOFError, gzip.BadGzipFile, zlib.error)


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
        self._text: io.TextIOWrapper | None = None
        self._bytes: BinaryIO = gzip.GzipFile(fileobj=packed) if is_packed else packed  # type: ignore[assignment]

    @property
    def position(self) -> int:
        """How many bytes of the file have been read, packed as they are; 0 for a pipe."""
        with contextlib.suppress(OSError, ValueError):
            return self._raw.tell()
        return 0

    def close(self) -> None:
        """Give the file back."""
        if self._text is not None:
            self._text.close()
        self._bytes.close()
        self._raw.close()

    def rows(self, mapping: ColumnMapping) -> Iterator[Record | BadRow]:
        """Yield each row; raises UsageError when a mapped column is not in the header.

        A row that cannot be read is yielded as such. A damaged gzip file ends with a bad row.
        """
        line = 0
        try:
            rows = self._csv(mapping) if self._format is FileFormat.CSV else self._jsonl()
            for row in rows:
                line = row.line
                yield row
        except _DAMAGED as error:
            yield BadRow(line + 1, f"the file is damaged from here on: {error}")

    def _csv(self, mapping: ColumnMapping) -> Iterator[Record | BadRow]:
        # What is not UTF-8 survives as lone surrogates, which the row's own check refuses.
        self._text = io.TextIOWrapper(
            self._bytes, encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        reader = csv.reader(self._text, delimiter=self._delimiter)
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, mapping)
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(reader.line_num, str(error))
                continue
            if len(values) == len(header):
                yield Record(reader.line_num, dict(zip(header, values, strict=True)))
            elif values:
                yield BadRow(
                    reader.line_num, f"{len(values)} columns, the header has {len(header)}"
                )

    def _jsonl(self) -> Iterator[Record | BadRow]:
        number = 0
        while line := self._bytes.readline(LINE_BYTES_MAX + 1):
            number += 1
            if len(line) > LINE_BYTES_MAX:
                self._skip_line()
                yield BadRow(number, f"longer than {LINE_BYTES_MAX} bytes")
            elif line.strip():
                yield _json_row(number, line)

    def _skip_line(self) -> None:
        while (rest := self._bytes.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
            pass


def _json_row(number: int, line: bytes) -> Record | BadRow:
    try:
        values = decode_json(line)
    except ValueError as error:
        return BadRow(number, f"not JSON: {error}")
    if not isinstance(values, dict):
        return BadRow(number, "not a JSON object")
    return Record(number, values)


def _format_of(path: str) -> FileFormat:
    """CSV or JSON lines, by the name without `.gz`."""
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        return FileFormat.CSV
    if suffix in (".jsonl", ".ndjson", ".json"):
        return FileFormat.JSONL
    raise UsageError(f"{path}: say what it holds with --format csv or --format jsonl")


def _check_header(header: list[str], mapping: ColumnMapping) -> None:
    missing = sorted(set(mapping.columns.values()) - set(header))
    if missing:
        raise UsageError(
            f"the file has no column {', '.join(missing)}; it has: {', '.join(header) or 'none'}"
        )
