"""Metrics without locks say what prometheus_client's own would say."""

from prometheus_client import Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from runtime.service.measures import HotCounter, HotHistogram

_VALUES = (0.0, 0.004, 0.005, 0.0051, 1.0, 1.5, 99.0)
_BUCKETS = (0.005, 1, 5)


def _lines(registry: CollectorRegistry) -> list[str]:
    """What is served, but for the moments at which lines were made, which ours have none of."""
    encode, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
    text = encode(registry).decode()
    return [line for line in text.splitlines() if "_created" not in line]


def test_a_counter_is_served_alike() -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    for made in (
        Counter("requests", "Answered", ["operation", "status"], registry=theirs),
        HotCounter("requests", "Answered", ["operation", "status"], registry=ours),
    ):
        made.labels("read", 200).inc()
        made.labels("read", "200").inc(2.5)
        made.labels('a "quoted"\nname', 404)
    for plain in (Counter("all", "All", registry=theirs), HotCounter("all", "All", registry=ours)):
        plain.inc()

    assert _lines(ours) == _lines(theirs)


def test_a_histogram_is_served_alike() -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    for made in (
        Histogram("seconds", "Time", ["operation"], buckets=_BUCKETS, registry=theirs),
        HotHistogram("seconds", "Time", ["operation"], buckets=_BUCKETS, registry=ours),
    ):
        for value in _VALUES:
            made.labels("read").observe(value)
        made.labels("write")
    for plain in (
        Histogram("sizes", "Sizes", buckets=_BUCKETS, registry=theirs),
        HotHistogram("sizes", "Sizes", buckets=_BUCKETS, registry=ours),
    ):
        plain.observe(3)

    assert _lines(ours) == _lines(theirs)


def test_a_batch_at_once_is_what_its_values_are_one_by_one() -> None:
    one_by_one, at_once = CollectorRegistry(), CollectorRegistry()
    singly = HotHistogram("seconds", "", ["channel"], buckets=_BUCKETS, registry=one_by_one)
    for value in _VALUES:
        singly.labels("http").observe(value)
    whole = HotHistogram("seconds", "", ["channel"], buckets=_BUCKETS, registry=at_once)
    whole.labels("http").observe_many(_VALUES)

    assert _lines(at_once) == _lines(one_by_one)
