"""The page: figures are replaced, prose stays, charts are drawings that parse."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.tools.bench.results import result_of
from tools.bench.cases import names
from tools.bench.charts import Bar, bar_chart
from tools.bench.page import markdown_table, with_section, write_page
from tools.bench.statistics import Spread

_DRAINED = names.of(names.RECORDED, names.UNIFORM)
_PROSE = "# Performance\n\nWhy.\n\n<!-- bench:drain -->\nold\n<!-- bench:end -->\n\nAfterwards.\n"


def test_a_section_is_replaced_and_the_prose_around_it_stays() -> None:
    assert with_section(_PROSE, "drain", r"new \1") == _PROSE.replace("old", r"new \1")


def test_a_section_that_the_page_does_not_have_is_added() -> None:
    text = with_section(_PROSE, "latency", "figures")

    assert text.startswith(_PROSE.rstrip())
    assert "## Latency\n\n<!-- bench:latency -->\nfigures\n<!-- bench:end -->" in text


def test_a_page_keeps_what_this_run_did_not_measure(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(_PROSE.replace("drain", "memory"), encoding="utf-8")

    write_page([result_of(names.DRAIN, **{_DRAINED: [1_000.0, 3_000.0, 2_000.0]})], tmp_path)

    text = page.read_text(encoding="utf-8")
    assert "old" in text
    assert "2,000 (1,000–3,000)" in text  # noqa: RUF001  # the dash of a range
    assert (tmp_path / "performance" / "drain.svg").exists()


def test_writing_a_page_twice_changes_nothing(tmp_path: Path) -> None:
    result = result_of(names.DRAIN, **{_DRAINED: [1_000.0]})
    write_page([result], tmp_path)
    first = (tmp_path / "performance.md").read_text(encoding="utf-8")

    write_page([result], tmp_path)

    assert (tmp_path / "performance.md").read_text(encoding="utf-8") == first


def test_each_case_is_taken_from_the_first_report_that_holds_it(tmp_path: Path) -> None:
    first = result_of(names.DRAIN, **{_DRAINED: [1_111.0]})
    second = result_of(names.GROWTH, short=[2_222.0], long=[2_000.0])

    write_page([first, second], tmp_path)

    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "1,111" in text
    assert "2,222" in text
    assert "0.90" in text


def test_a_demand_that_is_not_met_stays_on_the_page_in_bold(tmp_path: Path) -> None:
    result = result_of(names.DRAIN, **{_DRAINED: [100.0], f"{names.PGBENCH}, 4": [50.0]})

    write_page([result], tmp_path)

    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "| 2.00 | **not met** |" in text


def test_a_chart_is_well_formed_and_longer_bars_are_larger_values() -> None:
    chart = bar_chart(
        "speed <&> more",
        [
            Bar("one & only", Spread(100, 90, 120), "100"),
            Bar("its rival", Spread(50, 50, 50), "50", is_ours=False),
        ],
    )

    root = ET.fromstring(chart)  # noqa: S314  # our own text
    bars = [one for one in root.iter() if one.tag.endswith("rect")][1:]
    first, second = (float(bar.attrib["width"]) for bar in bars)
    assert first == pytest.approx(2 * second, abs=0.2)
    assert bars[0].attrib["fill"] != bars[1].attrib["fill"]


def test_the_longest_name_has_room_before_its_bar() -> None:
    name = "a rival, with every tuning of it, " * 4
    chart = ET.fromstring(bar_chart("rate", [Bar(name, Spread(50, 50, 50), "50")]))  # noqa: S314

    _, label, _ = (one for one in chart.iter() if one.tag.endswith("text"))
    bar = [one for one in chart.iter() if one.tag.endswith("rect")][1]
    assert float(label.attrib["x"]) > 6 * len(name)
    assert float(bar.attrib["x"]) > float(label.attrib["x"])
    assert float(chart.attrib["width"]) > float(bar.attrib["x"]) + float(bar.attrib["width"])


def test_a_chart_without_a_single_value_is_still_one() -> None:
    assert ET.fromstring(bar_chart("nothing", [])) is not None  # noqa: S314


def test_a_table_s_cells_cannot_break_its_columns() -> None:
    assert markdown_table(["", "a"], [["x|y", "1"]]).splitlines()[-1] == "| x\\|y | 1 |"
