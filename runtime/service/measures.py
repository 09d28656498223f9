"""What every process measures of itself, and metrics that cost a request next to nothing."""

import asyncio
import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import Final, Generic, TypeVar

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
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


def from_zero(metric: "Counter | HotCounter | HotHistogram", values: Iterable[str]) -> None:
    """Let a metric have a line for each value of its one label from the beginning.

    Otherwise the first increase is no increase to Prometheus, which has never seen a 0.
    """
    for value in values:
        metric.labels(value)


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


Line = TypeVar("Line")


class _Hot(Collector, Generic[Line]):
    """A metric that the event loop's thread alone changes, so without the locks of others.

    prometheus_client's take a lock for each increase, two for each observation, and one to find a
    child: 4 µs of a request, which is a fiftieth of it.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        new_line: Callable[[], Line],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self.labels_named = tuple(labels)
        self._new_line = new_line
        self._lines: dict[tuple[str, ...], Line] = {} if labels else {(): new_line()}
        registry.register(self)

    def labels(self, *values: object) -> Line:
        """Return the line of these values; it is there from now on."""
        line = self._lines.get(values)  # type: ignore[arg-type]  # texts are found as they are
        if line is not None:
            return line
        if len(values) != len(self.labels_named):
            raise ValueError(f"{self._name} has {len(self.labels_named)} labels")
        return self._lines.setdefault(tuple(map(str, values)), self._new_line())


class Increasing:
    """One line of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, more: float = 1) -> None:
        """Add to it."""
        self.value += more


class HotCounter(_Hot[Increasing]):
    """A counter of what each request or batch counts."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        super().__init__(name, documentation, labels, new_line=Increasing, registry=registry)

    def inc(self, more: float = 1) -> None:
        """Add to a counter without labels."""
        self._lines[()].value += more

    def describe(self) -> Iterable[CounterMetricFamily]:
        """Return it without values."""
        return [CounterMetricFamily(self._name, self._documentation, labels=self.labels_named)]

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Return what was counted."""
        [family] = self.describe()
        for values, line in self._lines.items():
            family.add_metric(values, line.value)
        return [family]


class Observing:
    """One line of a histogram."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float) -> None:
        """Add a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_many(self, values: Iterable[float]) -> None:
        """Add the values of a whole batch."""
        counts, bounds = self.counts, self.bounds
        for one in values:
            counts[bisect_left(bounds, one)] += 1
            self.total += one

    def exemplify(self, value: float, *, trace_id: str) -> None:
        """Name the trace of an observed value: each bucket shows the last one that was named."""
        at = bisect_left(self.bounds, value)
        self.exemplars[at] = Exemplar({"trace_id": trace_id}, value, time.time())


class HotHistogram(_Hot[Observing]):
    """A histogram of what each request or batch takes."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._bounds = tuple(buckets)
        new_line = partial(Observing, self._bounds)
        super().__init__(name, documentation, labels, new_line=new_line, registry=registry)

    def observe(self, value: float) -> None:
        """Add to a histogram without labels."""
        self._lines[()].observe(value)

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Return it without values."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self.labels_named)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return what was observed, as Prometheus reads it."""
        [family] = self.describe()
        limits = [*map(floatToGoString, self._bounds), "+Inf"]
        for values, line in self._lines.items():
            named = line.exemplars
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
                (limit, count, named[at]) if at in named else (limit, count)
                for at, (limit, count) in enumerate(
                    zip(limits, accumulate(line.counts), strict=True)
                )
            ]
            family.add_metric(values, buckets, line.total)
        return [family]
