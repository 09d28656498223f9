"""What every process measures of itself, and metrics that cost a request next to nothing."""

import asyncio
import platform
import time
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
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


def from_zero(counter: "Counter | HotCounter", values: Iterable[str]) -> None:
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


class _Hot(Collector, ABC):
    """A metric that the event loop's thread alone changes, so without the locks of others.

    prometheus_client's take a lock for each increase, two for each observation, and one to find a
    child: 4 µs of a request, which is a fiftieth of it.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self.labels_named = tuple(labels)
        registry.register(self)

    @abstractmethod
    def describe(self) -> Iterable[Metric]:
        """Return it without values."""

    def _key(self, values: tuple[object, ...]) -> tuple[str, ...]:
        if len(values) != len(self.labels_named):
            raise ValueError(f"{self._name} has {len(self.labels_named)} labels")
        return tuple(map(str, values))


class Increasing:
    """One line of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, more: float = 1) -> None:
        """Add to it."""
        self.value += more


class HotCounter(_Hot):
    """A counter of what each request or batch counts."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._lines: dict[tuple[str, ...], Increasing] = {} if labels else {(): Increasing()}
        super().__init__(name, documentation, labels, registry=registry)

    def labels(self, *values: object) -> Increasing:
        """Return the line of these values; it is there from now on."""
        line = self._lines.get(values)  # type: ignore[arg-type]  # texts are found as they are
        if line is None:
            line = self._lines.setdefault(self._key(values), Increasing())
        return line

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


class HotHistogram(_Hot):
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
        self._lines: dict[tuple[str, ...], Observing] = {}
        if not labels:
            self._lines[()] = Observing(self._bounds)
        super().__init__(name, documentation, labels, registry=registry)

    def labels(self, *values: object) -> Observing:
        """Return the line of these values; it is there from now on."""
        line = self._lines.get(values)  # type: ignore[arg-type]  # texts are found as they are
        if line is None:
            line = self._lines.setdefault(self._key(values), Observing(self._bounds))
        return line

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
