"""Files as a stream of rows: what can be read is read, what cannot is told with its line."""

import gzip
from contextlib import closing
from pathlib import Path

import pytest

from ops.failures import UsageError
from ops.replay.mapping import ColumnMapping, Field, Record
from ops.replay.reading import LINE_BYTES_MAX, BadRow, FileFormat, Source

CSV = "id,type,amount\n1,deposit,5.00\n2,withdrawal,3.00\n"


def rows(
    path: Path, mapping: ColumnMapping | None = None, *, file_format: FileFormat | None = None
) -> list[Record | BadRow]:
    with closing(Source(str(path), file_format=file_format)) as source:
        return list(source.rows(mapping or ColumnMapping()))


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def bad_lines(found: list[Record | BadRow]) -> dict[int, str]:
    return {row.line: row.reason for row in found if isinstance(row, BadRow)}


def test_a_csv_row_knows_its_line_and_its_columns(tmp_path: Path) -> None:
    assert rows(written(tmp_path / "a.csv", CSV)) == [
        Record(2, {"id": "1", "type": "deposit", "amount": "5.00"}),
        Record(3, {"id": "2", "type": "withdrawal", "amount": "3.00"}),
    ]


@pytest.mark.parametrize("name", ["a.csv.gz", "gzip-by-its-bytes.csv"])
def test_a_packed_file_is_read_like_a_plain_one(tmp_path: Path, name: str) -> None:
    packed = written(tmp_path / name, gzip.compress(CSV.encode()))

    assert rows(packed) == rows(written(tmp_path / "plain.csv", CSV))


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    [row] = rows(written(tmp_path / "a.csv", b"\xef\xbb\xbfid\n1\n"))

    assert row == Record(2, {"id": "1"})


def test_a_row_with_too_many_or_too_few_columns_is_told_and_left_out(tmp_path: Path) -> None:
    found = rows(written(tmp_path / "a.csv", "id,amount\n1,2,3\n1\n\n1,2\n"))

    assert bad_lines(found) == {
        2: "3 columns, the header has 2",
        3: "1 columns, the header has 2",
    }
    assert found[-1] == Record(5, {"id": "1", "amount": "2"})


def test_a_quoted_line_break_is_part_of_a_value(tmp_path: Path) -> None:
    found = rows(written(tmp_path / "a.csv", 'id,note\n1,"two\nlines"\n2,x\n'))

    assert found[0] == Record(3, {"id": "1", "note": "two\nlines"})


def test_bytes_that_are_not_utf8_spoil_their_own_row_alone(tmp_path: Path) -> None:
    found = rows(written(tmp_path / "a.csv", b"id\ncaf\xe9\nok\n"))

    assert found == [Record(2, {"id": "caf\udce9"}), Record(3, {"id": "ok"})]


def test_a_huge_field_is_told_and_the_next_row_is_read(tmp_path: Path) -> None:
    found = rows(written(tmp_path / "a.csv", f"id\n{'x' * 200_000}\nok\n"))

    assert "field larger than field limit" in bad_lines(found)[2]
    assert found[-1] == Record(3, {"id": "ok"})


def test_json_lines_keep_their_values(tmp_path: Path) -> None:
    found = rows(written(tmp_path / "a.jsonl", b'{"id": 1}\n\n[1]\n{"id": NaN}\n{"id": "z"'))

    assert found[0] == Record(1, {"id": 1})
    assert set(bad_lines(found)) == {3, 4, 5}


def test_a_line_beyond_the_bound_is_skipped_and_not_held(tmp_path: Path) -> None:
    long = b'{"id": "' + b"x" * (3 * LINE_BYTES_MAX) + b'"}\n'

    found = rows(written(tmp_path / "a.jsonl", long + b'{"id": 2}\n'))

    assert list(bad_lines(found)) == [1]
    assert found[-1] == Record(2, {"id": 2})


def test_a_damaged_archive_is_read_up_to_the_damage(tmp_path: Path) -> None:
    packed = gzip.compress(CSV.encode() * 2000)

    found = rows(written(tmp_path / "a.csv.gz", packed[: len(packed) // 2]))

    assert isinstance(found[0], Record)
    assert isinstance(found[-1], BadRow)
    assert "damaged" in found[-1].reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"metadata": ' + '{"a":' * 254 + "1" + "}" * 255, "32 levels"),
        ('{"amount": "1", "amount": "2"}', "stands twice"),
        ("{" + ",".join(f'"{n}":0' for n in range(64_001)) + "}", "64000 values"),
    ],
)
def test_a_line_beyond_the_bounds_is_a_bad_row_among_good_ones(
    tmp_path: Path, line: str, reason: str
) -> None:
    found = rows(written(tmp_path / "a.jsonl", '{"id": "1"}\n' + line + '\n{"id": "3"}\n'))

    assert [type(row) for row in found] == [Record, BadRow, Record]
    assert isinstance(found[1], BadRow)
    assert reason in found[1].reason


def test_a_mapped_column_that_is_not_there_stops_at_once(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", CSV)

    with pytest.raises(UsageError, match="no column betrag; it has: id, type, amount"):
        rows(path, ColumnMapping(columns={Field.AMOUNT: "betrag"}))


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert rows(written(tmp_path / "a.csv", "")) == []
    assert rows(written(tmp_path / "a.jsonl", "")) == []


def test_a_file_of_unknown_kind_asks_for_its_format(tmp_path: Path) -> None:
    path = written(tmp_path / "transactions.dat", CSV)

    with pytest.raises(UsageError, match="--format"):
        rows(path)
    assert len(rows(path, file_format=FileFormat.CSV)) == 2


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_cannot_be_opened_is_told_in_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        rows(tmp_path / name, file_format=FileFormat.CSV)
