"""What is demanded of this tree beside the first round's, and the table of both. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from tools.bench.cases import names
from tools.bench.demands import NOT_MEASURED, verdict_of
from tools.bench.metrics import metric_of
from tools.bench.statistics import spread_of
from tools.bench.tables import cell

CPU: Final = "cpu_us"
"""Processor time a transaction or request of all processes and servers together."""
RATES: Final = ("transactions_per_s", "completed_per_s", "accepted_per_s", "requests_per_s")
TAKEN: Final = ("p50_ms", "p99_ms", "bytes_each", "memory_mb", "cores", "ready_s", CPU)
"""Of these less is better."""

Pair: TypeAlias = tuple[Sequence[float], Sequence[float]]
"""One figure's samples: of the base, and of this tree."""
Compared: TypeAlias = Mapping[tuple[str, str], Pair]
"""Pairs by contestant and metric."""


@dataclass(frozen=True, slots=True)
class BesideDemand:
    """A bound and an aim of one figure: of its ratio to the base's, or of itself (`is_itself`)."""

    what: str
    contestant: str
    metric: str
    bound: float
    aim: float
    is_itself: bool = False

    @property
    def is_less_better(self) -> bool:
        """Whether the bound is an upper one."""
        return self.metric not in RATES

    def verdict(self, value: float) -> str:
        """Return the word for a value."""
        return verdict_of(value, bound=self.bound, aim=self.aim, is_less_better=self.is_less_better)


def _at_200(what: str, metric: str, bound: float, aim: float) -> BesideDemand:
    return BesideDemand(f"POST to COMPLETED at 200/s: {what}", "200/s", metric, bound, aim)


_DRAINED: Final = names.of(names.RECORDED, names.UNIFORM)
_ENDED: Final = names.over_http(200)

DEMANDS: Final = (
    BesideDemand("drain, batch messages, nobody bound", _DRAINED, RATES[0], 1.8, 2.5),
    BesideDemand(
        "drain, one queue bound to all events",
        "batch messages, a queue bound to all events",
        RATES[0],
        1.25,
        1.6,
    ),
    BesideDemand(
        "drain, one queue that takes all events, in bundles where there are any",
        "batch messages, a queue that may take them in bundles",
        RATES[0],
        1.25,
        1.6,
    ),
    BesideDemand("end to end, 200 connections", _ENDED, "completed_per_s", 1.4, 1.8),
    BesideDemand("end to end, 200 connections: POST p99", _ENDED, "p99_ms", 0.6, 0.4),
    BesideDemand("batch submit of 500, live", names.BATCH_OF_500, "accepted_per_s", 2, 3),
    _at_200("CPU", CPU, 0.56, 0.4),
    _at_200("p50", "p50_ms", 0.6, 0.35),
    _at_200("p99", "p99_ms", 0.6, 0.35),
    BesideDemand("GET wallet", "GET wallet", "requests_per_s", 2.5, 4),
    BesideDemand("GET entries", "GET entries", "requests_per_s", 3, 5),
    BesideDemand("bytes on disk a transfer", "books", "bytes_each", 0.75, 0.6),
    BesideDemand(
        "processor after 1 M transactions",
        f"{names.PROCESSOR_AFTER} 1,000,000 transactions",
        "memory_mb",
        110,
        90,
        is_itself=True,
    ),
    BesideDemand(
        "ingress under 2,000 connections",
        "ingress, 2,000 connections",
        "memory_mb",
        120,
        100,
        is_itself=True,
    ),
    BesideDemand("idle system", "idle", "cores", 0.06, 0.03, is_itself=True),
    *(
        BesideDemand(f"start to ready: {one}", one, "ready_s", 0.8, 0.5)
        for one in ("ingress", "processor", "reconciler")
    ),
)


def beside_table(compared: Compared) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return heading and rows: each demand with both medians, their spread, ratio and CPU."""
    heading = ["", "unit", "before", "now", "ratio", "asked", "", "CPU µs"]
    return heading, [_row(one, compared) for one in DEMANDS]


def _row(demand: BesideDemand, compared: Compared) -> Sequence[str]:
    asked = _asked(demand)
    before, after = compared.get((demand.contestant, demand.metric), ((), ()))
    unit = metric_of(demand.metric).label
    if not before or not after:
        return [demand.what, unit, "", "", "", asked, NOT_MEASURED, ""]
    old, new = statistics.median(before), statistics.median(after)
    ratio = new / old if old else None
    value = new if demand.is_itself else ratio
    return [
        demand.what,
        unit,
        cell(demand.metric, spread_of(before)),
        cell(demand.metric, spread_of(after)),
        "" if ratio is None else f"{ratio:.2f}",
        asked,
        NOT_MEASURED if value is None else demand.verdict(value),
        _processor_time(demand, compared),
    ]


def _asked(demand: BesideDemand) -> str:
    sign = "≤" if demand.is_less_better else "≥"
    return f"{sign} {demand.bound:g}"


def _processor_time(demand: BesideDemand, compared: Compared) -> str:
    """Both medians of CPU, where the figure is a rate: they are steadier than it."""
    pair = compared.get((demand.contestant, CPU))
    if pair is None or demand.metric not in RATES:
        return ""
    return " → ".join(f"{statistics.median(one):,.0f}" for one in pair)
