"""From metrics to what happens a second."""

import io
import math

import pytest
from rich.console import Console

from cli.watch.screen import READINGS_KEPT, History, screen_of, sparkline
from runtime.watching.reading import (
    Metrics,
    ProcessLook,
    Snapshot,
    parse_metrics,
    quantile_of,
    reading_of,
)

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


RECONCILER = """
# TYPE ackledger_reconciler_is_leader gauge
ackledger_reconciler_is_leader {leads}
# TYPE ackledger_pending_transactions gauge
ackledger_pending_transactions {pending}
# TYPE ackledger_oldest_pending_seconds gauge
ackledger_oldest_pending_seconds 2.5
# TYPE ackledger_open_holds gauge
ackledger_open_holds 4
# TYPE ackledger_reconciler_queue_messages gauge
ackledger_reconciler_queue_messages{{queue="ackledger.transactions.0"}} {pending}
"""


def reconciler(*, leads: int, pending: int) -> ProcessLook:
    text = RECONCILER.format(leads=leads, pending=pending)
    return ProcessLook("ready", metrics=parse_metrics(text))


def test_of_the_whole_book_the_leader_alone_is_believed() -> None:
    looks = {
        "old": reconciler(leads=0, pending=900),
        "new": reconciler(leads=1, pending=7),
        "processor": ProcessLook(
            "ready",
            metrics=parse_metrics(
                "# TYPE ackledger_processor_circuit_open gauge\n"
                "ackledger_processor_circuit_open 1\n"
            ),
        ),
    }
    reading = reading_of(Snapshot(0.0, looks), Snapshot(1.0, looks))

    assert (reading.pending, reading.oldest_pending_s, reading.open_holds) == (7, 2.5, 4)
    assert reading.queues == {"ackledger.transactions.0": 7}
    assert (reading.leaders, reading.open_circuits) == (["new"], ["processor"])
    assert reading.open_dead_letters is None


def test_what_nobody_says_is_not_known() -> None:
    reading = reading_of(Snapshot(0.0, {}), Snapshot(1.0, {"processor": look()}))

    assert (reading.leaders, reading.open_circuits) == (None, None)


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([], ""),
        ([0.0, 0.0], "▁▁"),
        ([None, None], "  "),
        ([0.0, 1.0, None, 4.0, 8.0], "▁▂ ▅█"),
        ([3], "█"),
    ],
)
def test_a_sparkline_goes_from_nothing_to_the_largest(
    values: list[float | None], bars: str
) -> None:
    assert sparkline(values) == bars


def test_a_screen_shows_how_figures_went_within_80_columns() -> None:
    history = History()
    snapshot = Snapshot(1.0, {"new": reconciler(leads=1, pending=7)})
    for completed in range(READINGS_KEPT + 10):
        before = Snapshot(0.0, {"processor": look()})
        now = Snapshot(1.0, {"processor": look(completed=completed)})
        history.add(reading_of(before, now))
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(screen_of(snapshot, reading_of(snapshot, snapshot), history))
    shown = console.export_text()

    assert max(map(len, shown.splitlines())) <= 80
    assert history.line("completed_per_s") in shown
    assert len(history.line("completed_per_s")) == READINGS_KEPT
    assert history.line("completed_per_s")[-1] == "█"
    assert "leader new" in shown
