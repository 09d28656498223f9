"""The figures' names as people read them: label, decimals, and whether less is better."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """How a figure is shown."""

    label: str
    decimals: int = 0


METRICS: Final = {
    "transactions_per_s": Metric("transactions/s"),
    "events_per_s": Metric("events confirmed/s"),
    "accepted_per_s": Metric("accepted/s"),
    "completed_per_s": Metric("COMPLETED/s"),
    "entries_per_s": Metric("entries/s"),
    "requests_per_s": Metric("requests/s"),
    "backlog_after": Metric("waiting at the end"),
    "p50_ms": Metric("p50 ms", 1),
    "p90_ms": Metric("p90 ms", 1),
    "p99_ms": Metric("p99 ms", 1),
    "offered_requests": Metric("requests offered"),
    "late_requests": Metric("sent late"),
    "dropped_requests": Metric("never sent"),
    "failed_requests": Metric("failed requests"),
    "load_generator_cores": Metric("load generator, cores", 2),
    "ready_s": Metric("ready after s", 2),
    "memory_mb": Metric("memory MB"),
    "ratio_to_first": Metric("ratio to the first", 2),
    "ingress_us": Metric("ingress CPU µs each"),
    "processor_us": Metric("processor CPU µs each"),
    "standby_us": Metric("standby CPU µs each"),
    "postgres_us": Metric("PostgreSQL CPU µs each"),
    "rabbitmq_us": Metric("RabbitMQ CPU µs each"),
    "command_us": Metric("command CPU µs each"),
    "rival_us": Metric("consumer CPU µs each"),
    "cpu_us": Metric("CPU µs each"),
    "bytes_each": Metric("bytes each"),
    "cores": Metric("cores", 2),
}
"""Names end in their unit; `_us` is CPU time a transaction or request."""


def metric_of(name: str) -> Metric:
    """Return how a figure is shown; one that nobody described keeps its name."""
    return METRICS.get(name, Metric(name, 2))


def shown(name: str, value: float) -> str:
    """Return a figure as text, with separators."""
    return f"{value:,.{metric_of(name).decimals}f}"
