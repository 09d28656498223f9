"""The page of figures: marked sections of docs/performance.md are replaced, the prose stays."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tools.bench.cases import names
from tools.bench.charts import Bar, bar_chart
from tools.bench.demands import NOT_MET
from tools.bench.metrics import metric_of, shown
from tools.bench.result import BenchResult, by_case
from tools.bench.summary import summary_lines
from tools.bench.tables import case_table, circumstance_lines, demand_table

PAGE: Final = "performance.md"
CHARTS: Final = "performance"

_CHARTED: Final = {
    names.DRAIN: ("transactions_per_s",),
    names.END_TO_END: ("completed_per_s",),
    names.SUBMIT: ("accepted_per_s",),
    names.LATENCY: ("p50_ms", "p99_ms"),
    names.STATUS: ("requests_per_s",),
    names.START_UP: ("ready_s",),
    names.MEMORY: ("memory_mb",),
    names.PROOFS: ("transactions_per_s",),
    names.GROWTH: ("transactions_per_s",),
    names.PARTITIONS: ("transactions_per_s",),
}
_RIVALS: Final = (
    names.PGBENCH,
    names.AIO_PIKA,
    names.FASTSTREAM,
    names.CELERY,
    names.ONE_QUERY_EACH,
)
_SECTION: Final = "<!-- bench:{name} -->\n{text}\n<!-- bench:end -->"


def write_page(results: Sequence[BenchResult], directory: Path) -> list[Path]:
    """Write the figures into the page and its charts below `directory`; return what was written.

    Sections of cases that nobody measured stay as they are. A page that is not there is made.
    """
    page = directory / PAGE
    text = page.read_text(encoding="utf-8") if page.exists() else "# Performance\n"
    charts = directory / CHARTS
    charts.mkdir(parents=True, exist_ok=True)
    written = [page]
    for name, section in sections(results):
        text = with_section(text, name, section)
    for name, chart in _charts(results):
        path = charts / f"{name}.svg"
        path.write_text(chart, encoding="utf-8")
        written.append(path)
    page.write_text(text, encoding="utf-8")
    return written


def sections(results: Sequence[BenchResult]) -> Iterator[tuple[str, str]]:
    """Yield name and text of each section that the results fill."""
    yield "summary", "\n".join(f"- {line}" for line in summary_lines(results))
    yield "circumstances", "\n".join(_circumstances(results))
    yield "demands", emphasised(markdown_table(*demand_table(results)))
    for case, result in by_case(results).items():
        pictures = "\n".join(
            f"![{case}, {metric_of(metric).label}]({CHARTS}/{_chart_name(case, metric)}.svg)"
            for metric in _CHARTED.get(case, ())
        )
        yield case, f"{pictures}\n\n{markdown_table(*case_table(result, case))}"


def with_section(text: str, name: str, section: str) -> str:
    """Return the page with one section replaced, or added at its end."""
    marked = _SECTION.format(name=name, text=section)
    found = re.compile(rf"<!-- bench:{re.escape(name)} -->.*?<!-- bench:end -->", re.DOTALL)
    if not found.search(text):
        return f"{text.rstrip()}\n\n## {name.capitalize()}\n\n{marked}\n"
    return found.sub(lambda _: marked, text, count=1)


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; all columns but the first are aligned to the right."""
    lines = [_line(heading), _line(["---", *("--:" for _ in heading[1:])])]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def emphasised(table: str) -> str:
    """Return a table in which nobody overlooks a demand that is not met."""
    return table.replace(f"| {NOT_MET} |", f"| **{NOT_MET}** |")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _circumstances(results: Sequence[BenchResult]) -> Iterator[str]:
    for result in results:
        for line in circumstance_lines(result.circumstances):
            yield f"- {line}"
        yield f"- {_verdict(result)}"
        for contestant, why in result.missing.items():
            yield f"- not measured: {contestant} ({why})"


def _verdict(result: BenchResult) -> str:
    if result.is_clean:
        return f"{result.verified} ledgers verified after their samples, every one clean"
    return f"**{len(result.unclean)} ledgers did not verify clean**: {'; '.join(result.unclean)}"


def _charts(results: Sequence[BenchResult]) -> Iterator[tuple[str, str]]:
    for case, result in by_case(results).items():
        for metric in _CHARTED.get(case, ()):
            bars = list(_bars(result, case, metric))
            yield _chart_name(case, metric), bar_chart(f"{case}: {metric_of(metric).label}", bars)


def _bars(result: BenchResult, case: str, metric: str) -> Iterator[Bar]:
    for contestant in result.contestants(case):
        spread = result.spread(case, contestant, metric)
        if spread is not None:
            text = shown(metric, spread.median)
            yield Bar(contestant, spread, text, is_ours=not contestant.startswith(_RIVALS))


def _chart_name(case: str, metric: str) -> str:
    return case if len(_CHARTED[case]) == 1 else f"{case}-{metric.replace('_', '-')}"
