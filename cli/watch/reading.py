"""From two snapshots to what happens a second. Pure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cli.watch.snapshot import Labels, Snapshot

_SUBMISSIONS = "ackledger_ingress_submissions_total"
_POSTED = "ackledger_processor_transactions_total"
_REQUEST_SECONDS = "ackledger_ingress_request_seconds"
_BATCH_SECONDS = "ackledger_processor_batch_seconds"


@dataclass(frozen=True, slots=True)
class Reading:
    """One line of the watch. A quantile is None when nothing happened between the looks."""

    accepted_per_s: float
    replayed_per_s: float
    conflicts_per_s: float
    completed_per_s: float
    failed_per_s: float
    dead_letters_per_s: float
    events_per_s: float
    batch_transactions: float | None
    backlog: int
    unannounced: int
    waiting_deliveries: int
    stale: int
    request_p50_ms: float | None
    request_p99_ms: float | None
    batch_p50_ms: float | None
    batch_p99_ms: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers by name, rounded."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def reading_of(before: Snapshot, now: Snapshot) -> Reading:
    """Return what happened between two snapshots."""
    change = _Change(before, now)
    batches = change.of(f"{_BATCH_SECONDS}_count")
    posted = change.of("ackledger_processor_batch_transactions_sum")
    return Reading(
        accepted_per_s=change.rate(_SUBMISSIONS, standing="new"),
        replayed_per_s=change.rate(_SUBMISSIONS, standing="replay"),
        conflicts_per_s=change.rate(_SUBMISSIONS, standing="conflict"),
        completed_per_s=change.rate(_POSTED, outcome="completed"),
        failed_per_s=change.rate(_POSTED, outcome="failed"),
        dead_letters_per_s=change.rate("ackledger_processor_dead_letters_total"),
        events_per_s=change.rate("ackledger_relay_events_total"),
        batch_transactions=posted / batches if batches else None,
        backlog=int(now.total("ackledger_ingress_backlog")),
        unannounced=int(now.total("ackledger_ingress_unannounced")),
        waiting_deliveries=int(now.total("ackledger_processor_waiting_deliveries")),
        stale=int(now.total("ackledger_reconciler_worklist_transactions")),
        request_p50_ms=change.quantile_ms(_REQUEST_SECONDS, 0.5, only=_is_submission),
        request_p99_ms=change.quantile_ms(_REQUEST_SECONDS, 0.99, only=_is_submission),
        batch_p50_ms=change.quantile_ms(_BATCH_SECONDS, 0.5),
        batch_p99_ms=change.quantile_ms(_BATCH_SECONDS, 0.99),
    )


def _is_submission(labels: Labels) -> bool:
    """A single one or a batch."""
    return dict(labels).get("operation", "").startswith("submit_transaction")


class _Change:
    """What counters grew by, process by process: one that began anew counts from zero."""

    def __init__(self, before: Snapshot, now: Snapshot) -> None:
        self._before = before
        self._now = now
        self._seconds = max(now.at - before.at, 0.001)

    def rate(self, name: str, **labels: str) -> float:
        return self.of(name, **labels) / self._seconds

    def of(self, name: str, **labels: str) -> float:
        return sum(self._grown(name, **labels).values())

    def quantile_ms(
        self, name: str, quantile: float, *, only: Callable[[Labels], bool] = lambda _: True
    ) -> float | None:
        buckets: dict[float, float] = {}
        for found, grown in self._grown(f"{name}_bucket").items():
            bound = float(dict(found)["le"])
            buckets[bound] = buckets.get(bound, 0.0) + (grown if only(found) else 0.0)
        seconds = quantile_of(buckets, quantile)
        return None if seconds is None else seconds * 1000

    def _grown(self, name: str, **labels: str) -> dict[Labels, float]:
        grown: dict[Labels, float] = {}
        for process, look in self._now.processes.items():
            known = self._before.processes.get(process)
            # A process that was silent shows its whole past at once; that is no second's work.
            if known is None or not known.metrics.samples:
                continue
            earlier = known.metrics.samples.get(name, {})
            for found, value in look.metrics.samples.get(name, {}).items():
                if labels.items() <= set(found):
                    start = earlier.get(found, 0.0)
                    growth = value - start if value >= start else value
                    grown[found] = grown.get(found, 0.0) + growth
        return grown


def quantile_of(buckets: Mapping[float, float], quantile: float) -> float | None:
    """Return a quantile of a cumulative histogram (bound to count), as Prometheus estimates it.

    Linear inside a bucket; the last finite bound when it lies beyond. None without observations.
    """
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank = quantile * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return lower
            inside = buckets[bound] - below
            return lower + (bound - lower) * ((rank - below) / inside if inside else 1.0)
        lower, below = bound, buckets[bound]
    return lower
