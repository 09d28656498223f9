"""Files as a stream of rows: what can be read is read, what cannot is told with its line."""

import csv
import gzip
import io
from contextlib import closing
from pathlib import Path
from typing import Final, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.failures import UsageError
from cli.replay.mapping import ColumnMapping, Field, Record
from cli.replay.reading import (
    LINE_BYTES_MAX,
    RECORD_LINES_MAX,
    BadRow,
    CsvRecord,
    CsvRecords,
    FileFormat,
    Lines,
    Source,
)

# One column serves as any of the required ones.
BY_ID: Final = ColumnMapping(
    columns=dict.fromkeys((Field.IDEMPOTENCY_KEY, Field.TYPE, Field.AMOUNT, Field.WALLET), "id"),
    currency="EUR",
)
OURS: Final = ColumnMapping(currency="EUR")
HEAD: Final = "idempotency_key,type,amount,wallet,description\n"
CSV: Final = "id,type,amount\n1,deposit,5.00\n2,withdrawal,3.00\n"


def rows(
    path: Path, mapping: ColumnMapping | None = None, *, file_format: FileFormat | None = None
) -> list[Record | BadRow]:
    with closing(Source(str(path), file_format=file_format)) as source:
        return list(source.rows(mapping or BY_ID))


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

    assert found == [
        Record(2, {"id": "1", "note": "two\nlines"}),
        Record(4, {"id": "2", "note": "x"}),
    ]


def test_bytes_that_are_not_utf8_spoil_their_own_row_alone(tmp_path: Path) -> None:
    found = rows(written(tmp_path / "a.csv", b"id\ncaf\xe9\nok\n"))

    assert found == [BadRow(2, "not UTF-8: byte 4 of the line"), Record(3, {"id": "ok"})]


def test_a_line_of_a_csv_beyond_the_bound_is_told_and_the_next_is_read(tmp_path: Path) -> None:
    found = rows(written(tmp_path / "a.csv", f"id\n{'x' * (LINE_BYTES_MAX + 1)}\nok\n"))

    assert "longer than" in bad_lines(found)[2]
    assert found[-1] == Record(3, {"id": "ok"})


# Each stands for money that was lost, changed or divided by a thousand with exit code 0.
STRAY_QUOTES: Final = {
    "a stray quote is closed by the next quoted value": (
        """k0,deposit,10.00,alice,"12 inch
k1,deposit,20.00,alice,a
k2,deposit,30.00,alice,"b"
k3,deposit,40.00,alice,c
""",
        {2: "not closed"},
        ["k1", "k2", "k3"],
    ),
    "a file cut off inside quotes": ('k0,deposit,10.00,alice,"cut of', {2: "not closed"}, []),
    "digits behind a closing quote": (
        'k0,deposit,"10"0.00,alice,x\nk1,deposit,1.00,alice,x\n',
        {2: "column 3: a quote within"},
        ["k1"],
    ),
    "digits before an opening quote": ('k0,deposit,1"0.00",alice,x\n', {2: "column 3"}, []),
    "two stray quotes with a row between them": (
        'k0,deposit,10.00,alice,"12 inch\nk1,deposit,20.00,alice,"\nk2,deposit,1.00,alice,x\n',
        {2: "reads as a row of its own"},
        ["k2"],
    ),
    "stray quotes in a column before the last": (
        'k0,deposit,10.00,"alice,a\nk1,deposit,20.00,",b\nk2,deposit,1.00,alice,x\n',
        {2: "reads as a row of its own"},
        ["k2"],
    ),
    "a carriage return inside a line": ("k0,deposit,1.00,alice,a\rb\n", {2: "carriage"}, []),
}


@pytest.mark.parametrize("case", STRAY_QUOTES)
def test_a_csv_that_is_not_strictly_one_is_told_with_its_line(case: str, tmp_path: Path) -> None:
    text, bad, good = STRAY_QUOTES[case]

    found = rows(written(tmp_path / "a.csv", HEAD + text), OURS)

    told = bad_lines(found)
    assert told.keys() == bad.keys()
    assert all(reason in told[line] for line, reason in bad.items())
    keys = [row.values["idempotency_key"] for row in found if isinstance(row, Record)]
    assert keys == good


def test_a_quote_that_nobody_closes_costs_one_row_however_long_the_file_is(tmp_path: Path) -> None:
    many = 3 * RECORD_LINES_MAX
    text = "id,note\n" + '1,"x\n' + "2,y\n" * many + '3,"z"\n'

    found = rows(written(tmp_path / "a.csv", text))

    assert list(bad_lines(found)) == [2]
    assert len(found) == many + 2


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)


QUOTING = st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])


@given(st.lists(st.lists(VALUES, min_size=2, max_size=4), min_size=1, max_size=6), QUOTING)
def test_what_the_csv_module_writes_is_read_as_it_was(
    table: list[list[str]], quoting: Literal[0, 1]
) -> None:
    width = len(table[0])
    table = [(row * 4)[:width] for row in table]
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting).writerows(table)
    # A byte order mark at the beginning of a file is no part of it.
    lines = Lines(io.BytesIO(b"first\r\n" + text.getvalue().encode()))

    _, *found = CsvRecords(lines, delimiter=",", reads_as_row=lambda _: False)

    assert [one.values for one in found if isinstance(one, CsvRecord)] == table


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("type,amount,wallet", "no column 'idempotency_key': .* --map idempotency_key=COLUMN"),
        ("idempotency_key,amount,wallet", "no column 'type'"),
        (
            "idempotency_key,type,wallet",
            "no column 'amount'.*it has: idempotency_key, type, wallet",
        ),
        ("idempotency_key,type,amount", "--map wallet=COLUMN"),
        ("idempotency_key,type,amount,amount,wallet", "column 'amount' twice"),
        ('idempotency_key,type,amount,wallet,"note', "line 1, the header: column 5: a quote"),
        ("idempotency_key,type,amount,wallet,na\udceff", "line 1, the header: not UTF-8"),
        ("", "the file is empty"),
    ],
)
def test_a_header_that_does_not_serve_is_wrong_use_at_once(
    header: str, said: str, tmp_path: Path
) -> None:
    lines = f"{header}\n" if header else ""
    path = written(tmp_path / "a.csv", lines.encode(errors="surrogateescape"))

    with pytest.raises(UsageError, match=said):
        rows(path, OURS)


def test_a_currency_is_a_required_column_unless_it_is_given(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", HEAD)

    assert rows(path, OURS) == []
    with pytest.raises(UsageError, match="no column 'currency'"):
        rows(path, ColumnMapping())


def test_a_column_s_name_may_have_a_line_break(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'id,"amount\nin total"\n1,2\n')

    assert rows(path) == [Record(3, {"id": "1", "amount\nin total": "2"})]


def test_a_column_that_nobody_uses_may_stand_twice(tmp_path: Path) -> None:
    [row] = rows(written(tmp_path / "a.csv", "id,note,note\n1,a,b\n"))

    assert isinstance(row, Record)
    assert row.values["id"] == "1"


def test_json_lines_keep_their_values(tmp_path: Path) -> None:
    found = rows(written(tmp_path / "a.jsonl", b'{"id": 1}\n\n[1]\n{"id": NaN}\n{"id": "z"'))

    assert found[0] == Record(1, {"id": 1})
    assert set(bad_lines(found)) == {3, 4, 5}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"amount": "1.00", "amount": "9.00"}', "the name 'amount' stands twice"),
        (b'{"metadata": {"a": 1, "a": 2}}', "the name 'a' stands twice"),
        (b'{"id": "caf\xe9"}', "not UTF-8"),
        (b"[" * 100_000, "more than 64000 values"),
        (b'{"id": 1e9999999999999999999}', "absurd exponent"),
        (b'{"id": ' + b"1" * 5000 + b"}", "not JSON"),
        ('{"id": 1}'.encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_line_that_is_not_one_plain_object_is_told(
    line: bytes, reason: str, tmp_path: Path
) -> None:
    found = rows(written(tmp_path / "a.jsonl", line + b'\n{"id": 2}'))

    assert reason in bad_lines(found)[1]
    assert found[-1] == Record(len(found), {"id": 2})


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
        ("{" + ",".join(f'"{n}":0' for n in range(64_001)) + "}", "too many fields"),
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


def test_a_file_without_rows_has_none(tmp_path: Path) -> None:
    assert rows(written(tmp_path / "a.csv", "id\n")) == []
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
