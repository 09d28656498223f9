"""docs/metrics.md: every metric of every process, read from the registry that serves them."""

import importlib
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from runtime.service.measures import HotCounter, HotHistogram

PAGE: Final = Path(__file__).parents[2] / "docs" / "metrics.md"
MODULES: Final = (
    ("every process", "runtime.service.measures"),
    ("ingress, processor", "runtime.tracing.metrics"),
    ("ingress", "ingress.metrics"),
    ("processor", "processor.metrics"),
    ("reconciler", "dead_letters.metrics"),
    ("reconciler", "reconciler.metrics"),
    ("notifier", "notifier.metrics"),
)
"""Who serves the metrics of a module."""

_HEAD: Final = (
    "# Metrics\n\n"
    "Written by `make documents` from the code. Each process serves its own at `/metrics` on its "
    "status port; all begin with `ackledger_`, in base units. A counter's name ends in `_total` "
    "there, a histogram's in `_bucket`, `_sum` and `_count`. What is read of the whole database "
    "comes from the reconciler that leads (`ackledger_reconciler_is_leader` 1) alone. Values of "
    "labels that are known beforehand are there from the start, at 0.\n\n"
    "Rules and alerts over them are in [deploy/prometheus](../deploy/prometheus); what each alert "
    "asks for is in [runbooks](runbooks.md).\n\n"
    "| metric | type | labels | served by | meaning |\n"
    "|---|---|---|---|---|\n"
)


class Metric(NamedTuple):
    """One metric as it is documented."""

    name: str
    type: str
    labels: tuple[str, ...]
    served_by: str
    meaning: str


def metrics() -> list[Metric]:
    """Return all of them, by process and name."""
    found = []
    for process, module in MODULES:
        namespace = vars(importlib.import_module(module))
        # Those that are defined there: a metric that is imported belongs to another.
        own = (one for one in namespace.values() if isinstance(one, _MADE_BY_US))
        found += [_metric(process, one) for one in own]
    return sorted(set(found))


_MADE_BY_US: Final = (MetricWrapperBase, HotCounter, HotHistogram)


def _metric(process: str, collector: MetricWrapperBase | HotCounter | HotHistogram) -> Metric:
    [family] = collector.describe()
    if isinstance(collector, HotCounter | HotHistogram):
        labels = collector.labels_named
    else:
        labels = collector._labelnames  # noqa: SLF001  # nothing else says it
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Metric(name, family.type, tuple(labels), process, family.documentation)


def page_of_metrics() -> str:
    """Return the page."""
    lines = [
        f"| `{one.name}` | {one.type} | {', '.join(f'`{label}`' for label in one.labels)} "
        f"| {one.served_by} | {one.meaning} |"
        for one in metrics()
    ]
    return _HEAD + "\n".join(lines) + "\n"
