"""From metrics to what happens a second."""

import math

import pytest

from cli.watch.reading import quantile_of, reading_of
from cli.watch.snapshot import Metrics, ProcessLook, Snapshot, parse_metrics

PROCESSOR = """
# TYPE ackledger_processor_transactions_total counter
ackledger_processor_transactions_total{{outcome="completed"}} {completed}
ackledger_processor_transactions_total{{outcome="failed"}} {failed}
# TYPE ackledger_processor_batch_seconds histogram
ackledger_processor_batch_seconds_bucket{{le="0.01"}} {fast}
ackledger_processor_batch_seconds_bucket{{le="0.1"}} {all}
ackledger_processor_batch_seconds_bucket{{le="+Inf"}} {all}
ackledger_processor_batch_seconds_count {all}
ackledger_processor_batch_seconds_sum 1
# TYPE ackledger_processor_batch_transactions histogram
ackledger_processor_batch_transactions_sum {completed}
"""


def look(*, completed: int = 0, failed: int = 0, fast: int = 0, batches: int = 0) -> ProcessLook:
    text = PROCESSOR.format(completed=completed, failed=failed, fast=fast, all=batches)
    return ProcessLook("ready", metrics=parse_metrics(text))


def test_counters_become_rates_over_the_time_between_the_looks() -> None:
    before = Snapshot(10.0, {"processor": look(completed=100, failed=3)})
    now = Snapshot(12.0, {"processor": look(completed=500, failed=7, batches=4)})

    reading = reading_of(before, now)

    assert (reading.completed_per_s, reading.failed_per_s) == (200.0, 2.0)
    assert reading.batch_transactions == 100.0


def test_processes_of_one_role_add_up() -> None:
    before = Snapshot(0.0, {"one": look(), "two": look(completed=5)})
    now = Snapshot(1.0, {"one": look(completed=10), "two": look(completed=25)})

    assert reading_of(before, now).completed_per_s == 30.0


def test_a_process_that_began_anew_counts_from_zero() -> None:
    before = Snapshot(0.0, {"processor": look(completed=1000)})
    now = Snapshot(1.0, {"processor": look(completed=40)})

    assert reading_of(before, now).completed_per_s == 40.0


def test_a_process_that_was_silent_does_not_show_its_past_as_one_second() -> None:
    now = Snapshot(1.0, {"processor": look(completed=1000)})

    for silent in ({}, {"processor": ProcessLook("silent", trouble="connection refused")}):
        assert reading_of(Snapshot(0.0, silent), now).completed_per_s == 0.0


def test_latencies_are_of_what_happened_between_the_looks() -> None:
    before = Snapshot(0.0, {"processor": look(fast=1000, batches=1000)})
    now = Snapshot(1.0, {"processor": look(fast=1000, batches=1010)})

    reading = reading_of(before, now)

    assert reading.batch_p50_ms == pytest.approx(55.0)
    assert reading.request_p50_ms is None


@pytest.mark.parametrize(
    ("buckets", "quantile", "expected"),
    [
        ({}, 0.5, None),
        ({0.1: 0.0, math.inf: 0.0}, 0.5, None),
        ({0.1: 10.0, math.inf: 10.0}, 0.5, 0.05),
        ({0.1: 50.0, 0.2: 100.0, math.inf: 100.0}, 0.99, 0.198),
        ({0.1: 0.0, math.inf: 10.0}, 0.5, 0.1),
    ],
)
def test_a_quantile_is_estimated_as_prometheus_does(
    buckets: dict[float, float], quantile: float, expected: float | None
) -> None:
    assert quantile_of(buckets, quantile) == (expected and pytest.approx(expected))


def test_labels_narrow_a_total_and_a_missing_metric_is_zero() -> None:
    metrics = look(completed=3, failed=4).metrics

    assert metrics.total("ackledger_processor_transactions_total") == 7
    assert metrics.total("ackledger_processor_transactions_total", outcome="failed") == 4
    assert Metrics().total("anything") == 0
