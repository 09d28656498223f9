"""Pictures of dashboards: every panel is there, in both schemes, with what it shows."""

from xml.etree import ElementTree as ET

import pytest

from tools.dashboards.model import Dashboard
from tools.dashboards.tables import DASHBOARDS, OVERVIEW
from tools.observability.drawing import Line, Span, ceiling_of, drawn, text_of

_SPAN = Span(1_000.0, 1_060.0, 10.0)
_POINTS = [(1_000.0 + 10 * step, float(step)) for step in range(7)]


def _parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314  # our own


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.uid)
def test_every_panel_is_drawn_with_its_line(dashboard: Dashboard) -> None:
    lines = {one.title: [Line(f"<{one.title}>", _POINTS)] for one in dashboard.panels}
    picture = drawn(dashboard, lines, _SPAN)
    texts = [one.text for one in _parsed(picture).iter() if one.tag.endswith("text")]

    assert {one.title for one in dashboard.panels} <= set(texts)
    assert picture.count('class="line"') == sum(one.kind != "stat" for one in dashboard.panels)
    assert "prefers-color-scheme:dark" in picture
    assert "no series" not in texts


def test_a_panel_without_series_says_so() -> None:
    lines: dict[str, list[Line]] = {one.title: [] for one in OVERVIEW.panels}

    assert drawn(OVERVIEW, lines, _SPAN).count(">no series<") == len(OVERVIEW.panels)


def test_a_line_is_interrupted_where_values_are_missing() -> None:
    panel = OVERVIEW.panels[3]
    lines: dict[str, list[Line]] = {one.title: [] for one in OVERVIEW.panels}
    lines[panel.title] = [Line("a", [*_POINTS[:2], *_POINTS[4:]])]
    [path] = [
        one for one in _parsed(drawn(OVERVIEW, lines, _SPAN)).iter() if one.get("class") == "line"
    ]

    assert path.attrib["d"].count("M") == 2


def test_an_axis_ends_at_a_round_number() -> None:
    assert [ceiling_of(one) for one in (0, 0.003, 1, 11, 41, 99)] == [1, 0.004, 1, 20, 50, 100]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (5, "s", "5 s"),
        (300, "s", "5 min"),
        (0.015, "percentunit", "1.5 %"),
        (3 * 1024**2, "bytes", "3 MiB"),
        (12_300, "ops", "12.3 k/s"),
        (7, "short", "7"),
    ],
)
def test_values_are_shown_in_their_unit(value: float, unit: str, text: str) -> None:
    assert text_of(value, unit) == text
