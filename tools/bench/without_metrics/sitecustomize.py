# ruff: noqa: INP001  # not imported by name: Python finds it on its path
"""Lets a process count nothing: Python loads it at its start where this folder is on its path.

For `tools.bench.overheads` alone. Each metric takes its calls and does nothing, and what gathers
figures for metrics only is left out, so that the difference is all that metrics cost.
"""

from typing import Any, Self

import prometheus_client


class _Nothing:
    """A counter, a gauge or a histogram that keeps nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take whatever a metric is made with."""

    def labels(self, *_: Any, **__: Any) -> Self:
        """Return itself, for any values."""
        return self

    def take(self, *_: Any, **__: Any) -> None:
        """Keep nothing."""

    inc = dec = set = observe = observe_many = exemplify = set_function = take


for _kind in ("Counter", "Gauge", "Histogram"):
    setattr(prometheus_client, _kind, _Nothing)

from runtime.service import measures  # noqa: E402  # after the classes that it makes metrics of

for _kind in ("HotCounter", "HotHistogram"):
    setattr(measures, _kind, _Nothing)

import processor.metrics  # noqa: E402  # likewise

processor.metrics.note_endings = _Nothing().take
