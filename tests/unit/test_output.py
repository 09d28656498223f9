"""What clients wrote is shown on a terminal, and never obeyed by it."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from cli.escaping import json_safe, printable
from cli.failures import RefusedError
from cli.output import console, json_of, print_json, print_line, print_table, say
from cli.safe_console import SafeConsole

HOSTILE = (
    "x\x1b]0;title\x07\x1b[31m\x9b2J\x7f\nall is well\r\u202e\u2066[red]:bomb:[/red][link=http://e]"
)
ESCAPED = (
    r"x\x1b]0;title\x07\x1b[31m\x9b2J\x7f\nall is well\r\u202e\u2066"
    "[red]:bomb:[/red][link=http://e]"
)

ANY_TEXT = st.text(st.characters())


@given(ANY_TEXT)
def test_a_shown_text_is_one_line_of_visible_characters(text: str) -> None:
    shown = printable(text)

    assert all(one.isprintable() or one.isspace() for one in shown)
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown


@pytest.mark.parametrize(
    "text", ["Zażółć gęślą jaźń 42 €", "お支払い", "a\N{NO-BREAK SPACE}b", r"C:\n"]
)
def test_what_is_visible_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text()), max_size=3))
def test_json_means_the_same_and_holds_nothing_that_steers(document: dict[str, object]) -> None:
    for text in (json_of(document), json_of(document, on_one_line=True)):
        assert json.loads(text) == document
        assert printable(text, keeps_lines=True) == text


def test_json_that_orjson_cannot_write_is_written_all_the_same() -> None:
    deep: object = "\ud800"
    for _ in range(300):
        deep = [deep]

    assert json.loads(json_of(deep)) == deep


def test_a_character_beyond_the_basic_plane_is_two_json_escapes() -> None:
    assert json_safe('"\U000e0001"') == r'"\udb40\udc01"'


def test_lines_tables_and_json_are_escaped_wherever_they_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_line(HOSTILE)
    print_table(["key", HOSTILE], [[HOSTILE, "1"]])
    console().print(HOSTILE)
    print_json({HOSTILE: HOSTILE})
    say(HOSTILE)

    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert (lines[0], lines[3], err) == (ESCAPED, ESCAPED, f"{ESCAPED}\n")
    assert len(lines) == 7
    assert out.count(ESCAPED) == 4
    assert printable(out + err, keeps_lines=True) == out + err


def test_tables_and_styled_texts_of_rich_are_escaped_on_a_real_terminal() -> None:
    out = SafeConsole()
    out.file = io.StringIO()
    table = Table(box=None)
    table.add_row(HOSTILE, Text(HOSTILE, style="red"))

    out.print(table)
    out.print(Text(HOSTILE))

    written = out.file.getvalue()
    assert "\x1b" not in written
    assert "\x9b" not in written
    assert "\u202e" not in written
    assert "[red]:bomb:[/red]" in written


def test_colours_of_our_own_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    out = SafeConsole()
    out.file = io.StringIO()

    out.print(HOSTILE, style="red")

    assert out.file.getvalue() == f"\x1b[31m{ESCAPED}\x1b[0m\n"


def test_a_failure_that_repeats_what_a_client_wrote_is_safe() -> None:
    assert str(RefusedError("first\nsecond \x1b[2J")) == "first\nsecond \\x1b[2J"
