"""What every process measures of itself, and histograms that take many values at once."""

import asyncio
import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

LOOK_S: Final = 0.5
"""How often the event loop's lag is measured."""
DEPENDENCIES: Final = ("aiohttp", "aiormq", "asyncpg", "redis", "uvloop")

BUILD_INFO: Final = Gauge(
    "ackledger_build_info", "Always 1: which release runs", ["version", "python"]
)
DEPENDENCY_INFO: Final = Gauge(
    "ackledger_dependency_info", "Always 1: which library runs", ["name", "version"]
)
LOOP_LAG_SECONDS: Final = Histogram(
    "ackledger_loop_lag_seconds",
    "How late the event loop woke a timer: what every request waits for beside its own work",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
POOL_CONNECTIONS: Final = Gauge(
    "ackledger_database_pool_connections",
    "Connections of a pool to PostgreSQL: open, in use, and the most that there may be",
    ["pool", "state"],
)


def from_zero(counter: Counter, values: Iterable[str]) -> None:
    """Let a counter have a line for each value of its one label from the beginning.

    Otherwise the first increase is no increase to Prometheus, which has never seen a 0.
    """
    for value in values:
        counter.labels(value)


class SelfMeasures:
    """Says which release this is, and measures how late its event loop is."""

    async def run(self) -> None:
        """Measure until cancelled."""
        BUILD_INFO.labels(_version_of("ackledger"), platform.python_version()).set(1)
        for name in DEPENDENCIES:
            DEPENDENCY_INFO.labels(name, _version_of(name)).set(1)
        while True:
            due = time.monotonic() + LOOK_S
            await asyncio.sleep(LOOK_S)
            LOOP_LAG_SECONDS.observe(max(0.0, time.monotonic() - due))


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def watch_pool(name: str, *, opened: Callable[[], int], idle: Callable[[], int], most: int) -> None:
    """Show a pool's connections whenever somebody reads the metrics."""
    POOL_CONNECTIONS.labels(name, "open").set_function(opened)
    POOL_CONNECTIONS.labels(name, "in_use").set_function(lambda: opened() - idle())
    POOL_CONNECTIONS.labels(name, "max").set(most)


class ManyHistogram(Collector):
    """A histogram with one label, to which a whole batch is added at once.

    prometheus_client's takes a lock and walks its buckets for each value: a microsecond, which is
    two hundredths of a transaction.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        *,
        label: str,
        values: Iterable[str],
        buckets: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """`values` are all that the label can have: each is there from the beginning."""
        self._name = name
        self._documentation = documentation
        self.labels_named = (label,)
        self._bounds = tuple(buckets)
        self._counts = {one: [0] * (len(self._bounds) + 1) for one in values}
        self._sums = dict.fromkeys(self._counts, 0.0)
        self._exemplars: dict[str, dict[int, Exemplar]] = {one: {} for one in self._counts}
        registry.register(self)

    def observe_many(self, value: str, observed: Iterable[float]) -> None:
        """Add values under one value of the label."""
        counts, bounds = self._counts[value], self._bounds
        total = 0.0
        for one in observed:
            counts[bisect_left(bounds, one)] += 1
            total += one
        self._sums[value] += total

    def exemplify(self, value: str, observed: float, *, trace_id: str) -> None:
        """Name the trace of an observed value: each bucket shows the last one that was named."""
        at = bisect_left(self._bounds, observed)
        self._exemplars[value][at] = Exemplar({"trace_id": trace_id}, observed, time.time())

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Return it without values."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self.labels_named)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return what was observed, as Prometheus reads it."""
        [family] = self.describe()
        limits = [*map(floatToGoString, self._bounds), "+Inf"]
        for value, counts in self._counts.items():
            named = self._exemplars[value]
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
                (limit, count, named[at]) if at in named else (limit, count)
                for at, (limit, count) in enumerate(zip(limits, accumulate(counts), strict=True))
            ]
            family.add_metric([value], buckets, self._sums[value])
        return [family]
