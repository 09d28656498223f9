"""Processes by their status ports: one look at each, and what two looks say of a second."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

from runtime.resilience.reasons import reason_of

_ANSWER_IN_S: Final = 3.0
"""More than a readiness check may take; a process that is slower is shown as silent."""
_LOST: Final = (aiohttp.ClientError, TimeoutError, OSError)

Labels = frozenset[tuple[str, str]]
_SUBMISSIONS = "ackledger_ingress_submissions_total"
_POSTED = "ackledger_processor_transactions_total"
_REQUEST_SECONDS = "ackledger_ingress_request_seconds"
_BATCH_SECONDS = "ackledger_processor_batch_seconds"
_END_TO_END_SECONDS = "ackledger_transaction_end_to_end_seconds"
_IS_LEADER = "ackledger_reconciler_is_leader"
OPEN_DEAD_LETTERS = "ackledger_open_dead_letters"
"""No process serves it: the database says it, where that is asked."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """The samples of one process by name and labels."""

    samples: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have these labels; 0 without any."""
        wanted = labels.items()
        return sum(
            value for found, value in self.samples.get(name, {}).items() if wanted <= set(found)
        )


@dataclass(frozen=True, slots=True)
class ProcessLook:
    """What one process answered. `status` is its own word, or 'silent'."""

    status: str
    dependencies: Mapping[str, str] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every process at one moment of time.monotonic."""

    at: float
    processes: Mapping[str, ProcessLook]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all processes."""
        return sum(look.metrics.total(name, **labels) for look in self.processes.values())

    def largest(self, name: str) -> float:
        """Return the largest of the processes' sums: of what several of them see alike."""
        return max((look.metrics.total(name) for look in self.processes.values()), default=0.0)


def parse_metrics(text: str) -> Metrics:
    """Return the samples of a Prometheus text; raises ValueError when it is none. Pure."""
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            samples.setdefault(sample.name, {})[labels] = sample.value
    return Metrics(samples)


async def take_snapshot(session: aiohttp.ClientSession, urls: Mapping[str, str]) -> Snapshot:
    """Ask all processes at once; never raises for one that does not answer."""
    looks = await asyncio.gather(*(_look(session, url) for url in urls.values()))
    return Snapshot(time.monotonic(), dict(zip(urls, looks, strict=True)))


async def _look(session: aiohttp.ClientSession, url: str) -> ProcessLook:
    try:
        async with asyncio.timeout(_ANSWER_IN_S):
            readiness, metrics = await asyncio.gather(
                _read(session, f"{url}/readyz"), _read(session, f"{url}/metrics")
            )
        found: dict[str, Any] = orjson.loads(readiness)
        return ProcessLook(
            status=str(found["status"]),
            dependencies={
                name: str(state["state"]) for name, state in found["dependencies"].items()
            },
            metrics=parse_metrics(metrics.decode()),
        )
    except _LOST as error:
        return ProcessLook("silent", trouble=reason_of(error))
    except (ValueError, KeyError, TypeError) as error:
        return ProcessLook("strange", trouble=f"no status port of ours: {error!r}")


async def _read(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as response:
        return await response.read()


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
    end_to_end_p50_ms: float | None
    end_to_end_p99_ms: float | None
    pending: int
    oldest_pending_s: float
    open_holds: int
    owed_commits: int
    waiting_webhooks: int
    open_dead_letters: int | None
    """None where only processes are asked: the table alone knows."""
    queues: Mapping[str, int]
    """Messages that wait, by queue, as the leader saw them last."""
    leaders: Sequence[str] | None
    """The reconciler that leads; None where no reconciler answers."""
    open_circuits: Sequence[str] | None
    """The processors that consume nothing, because the database cannot be reached.

    None where no processor answers.
    """

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
        end_to_end_p50_ms=change.quantile_ms(_END_TO_END_SECONDS, 0.5),
        end_to_end_p99_ms=change.quantile_ms(_END_TO_END_SECONDS, 0.99),
        pending=int(_of_the_book(now, "ackledger_pending_transactions")),
        oldest_pending_s=_of_the_book(now, "ackledger_oldest_pending_seconds"),
        open_holds=int(_of_the_book(now, "ackledger_open_holds")),
        owed_commits=int(_of_the_book(now, "ackledger_outbox_rows")),
        waiting_webhooks=int(now.largest("ackledger_notifier_waiting_webhooks")),
        open_dead_letters=_open_dead_letters(now),
        queues=_queues(now),
        leaders=_where(now, _IS_LEADER),
        open_circuits=_where(now, "ackledger_processor_circuit_open"),
    )


def _where(now: Snapshot, name: str) -> list[str] | None:
    """Return the processes whose gauge is not 0; None where nobody has it."""
    found = {one: look.metrics for one, look in now.processes.items()}
    if not any(name in metrics.samples for metrics in found.values()):
        return None
    return [one for one, metrics in found.items() if metrics.total(name)]


def _book_keepers(now: Snapshot) -> list[Metrics]:
    """Return who knows the whole book: what a reconciler saw that leads no more is old."""
    return [
        look.metrics
        for look in now.processes.values()
        if look.metrics.total(_IS_LEADER) or look.metrics.samples.get(OPEN_DEAD_LETTERS)
    ]


def _of_the_book(now: Snapshot, name: str) -> float:
    return max((metrics.total(name) for metrics in _book_keepers(now)), default=0.0)


def _open_dead_letters(now: Snapshot) -> int | None:
    known = any(look.metrics.samples.get(OPEN_DEAD_LETTERS) for look in now.processes.values())
    return int(_of_the_book(now, OPEN_DEAD_LETTERS)) if known else None


def _queues(now: Snapshot) -> dict[str, int]:
    name = "ackledger_reconciler_queue_messages"
    return {
        dict(labels).get("queue", ""): int(waiting)
        for metrics in _book_keepers(now)
        for labels, waiting in metrics.samples.get(name, {}).items()
    }


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
