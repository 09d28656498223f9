"""Which WAL belongs to the history of a server: histories as PostgreSQL writes them, and files."""

import os
from pathlib import Path
from typing import Final

from cli.backups.timelines import Line, Span, line_of, position_of, position_text
from cli.backups.wal import WalFolder, lines_in, off_line

SIZE: Final = 1024
"""The tests' segments are smaller than any server's: what is looked at does not depend on it."""


def _segment(folder: Path, timeline: int, number: int, *, is_partial: bool = False) -> Path:
    name = f"{timeline:08X}{0:08X}{number:08X}" + (".partial" if is_partial else "")
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(bytes([timeline]) * SIZE)
    return path


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def _line(*left: tuple[int, int], timeline: int) -> Line:
    history = "".join(f"{number}\t{position_text(at)}\tno reason\n\n" for number, at in left)
    return line_of(timeline, history)


def test_position_is_written_as_it_was_read() -> None:
    assert position_of("16/B374D848") == 0x16_B374_D848
    assert position_text(0x16_B374_D848) == "16/B374D848"


def test_history_file_gives_each_timeline_up_to_where_it_was_left() -> None:
    history = "1\t0/3000148\tbefore 2026-11-29 09:49:03.06024+00\n\n2\t0/5000000\tno reason\n"
    assert line_of(3, history).spans == (
        Span(1, 0, 0x3000148),
        Span(2, 0x3000148, 0x5000000),
        Span(3, 0x5000000),
    )
    assert line_of(1, "").spans == (Span(1, 0),)


def test_timeline_that_was_left_before_it_began_is_no_part_of_the_line() -> None:
    line = _line((1, 3000), (2, 2000), timeline=3)
    assert line.spans == (Span(1, 0, 2000), Span(3, 2000))


def test_base_is_part_of_a_line_up_to_where_the_line_left_its_timeline() -> None:
    line = _line((1, 3000), timeline=2)
    first = _line(timeline=1)
    assert line.holds(first, 3000)
    assert not line.holds(first, 3001)
    assert line.holds(line, 9000)
    assert not first.holds(line, 9000)
    assert not line.holds(_line((1, 2000), timeline=2), 9000), "another timeline of this number"
    assert not _line((1, 2000), timeline=3).holds(line, 2500), "a branch of its own"


def test_server_is_given_the_youngest_segment_of_its_line_and_nothing_beyond_it(
    tmp_path: Path,
) -> None:
    for number in range(6):
        _segment(tmp_path, 1, number)
    for number in (2, 3):
        _segment(tmp_path, 2, number, is_partial=number == 3)
    line = _line((1, 2 * SIZE + 100), timeline=2)
    selected = WalFolder(tmp_path, size=SIZE).select(line, SIZE + 10)
    assert [(one.name, one.until) for one in selected.segments] == [
        ("000000010000000000000001", None),
        ("000000020000000000000002", None),
        ("000000020000000000000003", None),
    ]
    assert selected.after_gap is None


def test_older_segment_is_zeroed_from_where_its_timeline_was_left(tmp_path: Path) -> None:
    wal, restored = tmp_path / "wal", tmp_path / "restored"
    restored.mkdir()
    for number in range(4):
        _segment(wal, 1, number)
    line = _line((1, 2 * SIZE + 100), timeline=2)
    selected = WalFolder(wal, size=SIZE).select(line, 0)
    for one in selected.segments:
        one.copy_to(restored, SIZE)
    assert _names(restored) == [f"00000001000000000000000{number}" for number in range(3)]
    last = (restored / "000000010000000000000002").read_bytes()
    assert last == b"\x01" * 100 + bytes(SIZE - 100)


def test_timeline_that_was_only_begun_to_be_taken_hides_nothing_of_the_one_before(
    tmp_path: Path,
) -> None:
    line = _line((1, SIZE + 104), timeline=2)
    for number in range(2):
        _segment(tmp_path, 1, number)
    begun = _segment(tmp_path, 2, 1, is_partial=True)
    begun.write_bytes(b"\x01" * 104 + bytes(SIZE - 104))
    selected = WalFolder(tmp_path, size=SIZE).select(line, 0)
    assert [(one.name, one.until) for one in selected.segments] == [
        ("000000010000000000000000", None),
        ("000000010000000000000001", SIZE + 104),
    ]

    (tmp_path / "000000010000000000000001").unlink()
    selected = WalFolder(tmp_path, size=SIZE).select(line, 0)
    assert [(one.segment.path, one.name) for one in selected.segments[1:]] == [
        (begun, "000000010000000000000001")
    ]


def test_short_partial_segment_is_given_its_length(tmp_path: Path) -> None:
    wal, restored = tmp_path / "wal", tmp_path / "restored"
    restored.mkdir()
    os.truncate(_segment(wal, 1, 0, is_partial=True), 10)
    (chosen,) = WalFolder(wal, size=SIZE).select(_line(timeline=1), 0).segments
    chosen.copy_to(restored, SIZE)
    assert (restored / "000000010000000000000000").read_bytes() == b"\x01" * 10 + bytes(SIZE - 10)


def test_whole_segment_is_taken_before_a_partial_copy_of_it(tmp_path: Path) -> None:
    _segment(tmp_path / "earlier", 1, 0)
    _segment(tmp_path, 1, 0, is_partial=True)
    folder = WalFolder(tmp_path, tmp_path / "earlier", size=SIZE)
    (chosen,) = folder.select(_line(timeline=1), 0).segments
    assert not chosen.segment.is_partial


def test_gap_ends_what_is_restored_and_names_what_comes_after_it(tmp_path: Path) -> None:
    for number in (0, 1, 4, 5):
        _segment(tmp_path, 1, number)
    selected = WalFolder(tmp_path, size=SIZE).select(_line(timeline=1), 0)
    assert selected.end == 2 * SIZE
    assert selected.after_gap is not None
    assert selected.after_gap.start == 4 * SIZE


def test_following_goes_on_from_the_branch_and_keeps_what_was_abandoned(tmp_path: Path) -> None:
    for number in range(5):
        _segment(tmp_path, 1, number, is_partial=number == 4)
    line = _line((1, 2 * SIZE + 100), timeline=2)
    folder = WalFolder(tmp_path, size=SIZE)
    folder.set_aside(off_line(folder.segments(), line))
    folder.begin_timeline(line)
    assert _names(tmp_path) == [
        "000000010000000000000000",
        "000000010000000000000001",
        "000000020000000000000002.partial",
    ]
    assert _names(tmp_path / "earlier") == [
        "000000010000000000000002",
        "000000010000000000000003",
        "000000010000000000000004.partial",
    ]


def test_following_first_ends_the_old_timeline_where_it_had_not_taken_all_of_it(
    tmp_path: Path,
) -> None:
    for number in range(3):
        _segment(tmp_path, 1, number, is_partial=number == 2)
    line = _line((1, 4 * SIZE + 100), timeline=2)
    folder = WalFolder(tmp_path, size=SIZE)
    folder.set_aside(off_line(folder.segments(), line))
    folder.begin_timeline(line)
    assert len(_names(tmp_path)) == 3
    assert not (tmp_path / "earlier").exists()


def test_history_in_the_folder_of_wal_counts_before_that_of_a_base(tmp_path: Path) -> None:
    wal, base = tmp_path / "wal", tmp_path / "base"
    for folder, left in ((wal, "0/3000000"), (base, "0/4000000")):
        folder.mkdir()
        (folder / "00000002.history").write_text(f"1\t{left}\tno reason\n")
    (base / "00000003.history").write_text("1\t0/5000000\tno reason\n")
    lines = lines_in(wal, base)
    assert sorted(lines) == [1, 2, 3]
    assert lines[2].spans[0].end == 0x3000000
