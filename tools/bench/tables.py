"""A result as tables: of each case, of the demands, of the circumstances. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from tools.bench.demands import Judged, judge_all
from tools.bench.metrics import metric_of, shown
from tools.bench.result import BenchResult
from tools.bench.statistics import Spread

Row = Sequence[str]
_NOT_HAD: Final = ""


def case_table(result: BenchResult, case: str) -> tuple[Row, list[Row]]:
    """Return heading and rows: a row for each contestant, a column for each figure."""
    contestants = result.values[case]
    metrics = list(dict.fromkeys(name for figures in contestants.values() for name in figures))
    heading = ["", *(metric_of(name).label for name in metrics)]
    rows: list[Row] = [
        [one, *(cell(name, result.spread(case, one, name)) for name in metrics)]
        for one in contestants
    ]
    return heading, rows


def cell(metric: str, spread: Spread | None) -> str:
    """Return a figure's median as text, with its least and most where they differ."""
    if spread is None:
        return _NOT_HAD
    middle = shown(metric, spread.median)
    least, most = shown(metric, spread.least), shown(metric, spread.most)
    return middle if least == most else f"{middle} ({least}\N{EN DASH}{most})"


def demand_table(results: Sequence[BenchResult]) -> tuple[Row, list[Row]]:
    """Return heading and rows; each demand by the first result that measured it."""
    heading = ["demand", "at least", "aim", "measured", ""]
    return heading, [_demand_row(one) for one in judge_all(results)]


def _demand_row(judged: Judged) -> Row:
    demand = judged.demand
    sign = "\N{LESS-THAN OR EQUAL TO} " if demand.is_less_better else ""
    return [
        demand.what,
        f"{sign}{_plain(demand.bound)}{demand.unit}",
        f"{sign}{_plain(demand.aim)}{demand.unit}",
        "" if judged.value is None else demand.shown(judged.value),
        judged.verdict,
    ]


def _plain(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def _before(machine: dict[str, Any]) -> str:
    """How busy the machine was, and what a promise of its disk takes; older reports did not ask."""
    busy = f"the machine was {machine['busy_before']:.0%} busy before"
    taken = machine.get("synchronous_write_ms")
    return busy if taken is None else f"{busy}, a synchronous 4 KiB write took {_plain(taken)} ms"


def circumstance_lines(circumstances: dict[str, Any]) -> list[str]:
    """Return a sentence for each circumstance of a run."""
    machine, versions = circumstances["machine"], circumstances["versions"]
    deployed = ", ".join(f"{count} {role}" for role, count in circumstances["deployment"].items())
    settings = circumstances["postgres_settings"]
    lines = [
        f"{circumstances['began_at']} to {circumstances.get('ended_at', 'now')}",
        f"`{circumstances['command']}`",
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_mb']:,} MB memory",
        f"Linux {machine['kernel']}; {_before(machine)}",
        ", ".join(f"{name} {number}" for name, number in versions.items() if number),
        f"processes: {deployed}; {circumstances['runs']} samples of each, in turns",
        "PostgreSQL: " + ", ".join(f"`{name}={value}`" for name, value in settings.items()),
    ]
    if circumstances["is_quick"]:
        lines.append("**A quick run: it proves that all works, and its figures mean nothing.**")
    return lines
