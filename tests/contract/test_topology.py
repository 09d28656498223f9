"""What is asked of the broker exists in RabbitMQ 3.10 and in 4.x, and loses nothing in either.

RabbitMQ 4 dropped mirrored classic queues, is dropping global prefetch and transient non-exclusive
queues, and gives a quorum queue a delivery limit of 20 where none is declared.
"""

import ast
from collections.abc import Iterator
from typing import Final

import pytest

from contracts.topology import (
    DEAD_LETTERS,
    EVENTS_LOG,
    EXCHANGES,
    NOTIFICATIONS,
    EventQueues,
    Queue,
    partition_queue,
    queues,
)
from tests.house.source_tree import PACKAGES, place, python_files, tree_of

PARTITIONS: Final = (1, 3, 256)
_DELIVERIES_OF_RABBITMQ_4: Final = 20
_KNOWN_ARGUMENTS: Final = frozenset(
    {
        "x-queue-type",
        "x-single-active-consumer",
        "x-delivery-limit",
        "x-dead-letter-exchange",
        "x-dead-letter-strategy",
        "x-max-length",
        "x-overflow",
    }
)
"""Of quorum queues, in 3.10 and in 4.x alike. Whatever is added here was looked up for both."""

_DECLARATIONS: Final = frozenset({"queue_declare", "declare_queue"})
_CONSUMPTIONS: Final = frozenset({"basic_qos", "set_qos"})


def _every_queue() -> Iterator[Queue]:
    """Every queue of which messages are taken away."""
    for partitions in PARTITIONS:
        yield from (queue for queue in queues(partitions) if queue.name != EVENTS_LOG)


@pytest.mark.parametrize("partitions", PARTITIONS)
def test_there_is_a_queue_for_each_partition_and_those_of_the_keepers(partitions: int) -> None:
    names = [queue.name for queue in queues(partitions)]

    assert names == [
        DEAD_LETTERS,
        NOTIFICATIONS,
        EVENTS_LOG,
        *(partition_queue(number) for number in range(partitions)),
    ]


@pytest.mark.parametrize(
    ("events", "takers"),
    [
        (EventQueues(), set()),
        (EventQueues(notify_money=True), {NOTIFICATIONS}),
        (EventQueues(is_log_kept=True), {EVENTS_LOG}),
    ],
)
def test_events_are_sent_to_those_of_our_queues_that_are_wanted(
    events: EventQueues, takers: set[str]
) -> None:
    bound = {queue.name for queue in queues(3, events) if queue.is_bound}

    assert bound == {DEAD_LETTERS, partition_queue(0)} | takers


def test_every_queue_is_a_quorum_queue_with_arguments_of_both_ends() -> None:
    for queue in _every_queue():
        assert queue.arguments.keys() <= _KNOWN_ARGUMENTS, queue.name
        assert queue.arguments["x-queue-type"] == "quorum", queue.name


def test_no_queue_takes_the_delivery_limit_that_its_broker_thinks_of() -> None:
    for queue in _every_queue():
        assert int(queue.arguments["x-delivery-limit"]) > _DELIVERIES_OF_RABBITMQ_4, queue.name


def test_what_a_consumer_gives_up_reaches_the_dead_letters_at_least_once() -> None:
    exchanges = {exchange.name for exchange in EXCHANGES}
    for queue in _every_queue():
        if queue.name == DEAD_LETTERS:
            continue
        # Whoever tells people of money may do so in any order.
        assert queue.name == NOTIFICATIONS or queue.arguments["x-single-active-consumer"] is True
        assert queue.arguments["x-dead-letter-exchange"] == DEAD_LETTERS
        assert queue.arguments["x-dead-letter-exchange"] in exchanges
        # Without the second the broker falls back to at-most-once, and says nothing.
        assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
        assert queue.arguments["x-overflow"] == "reject-publish"


def test_dead_letters_themselves_are_given_up_by_nobody() -> None:
    (queue,) = [queue for queue in queues(1) if queue.name == DEAD_LETTERS]

    assert queue.arguments.keys() == {"x-queue-type", "x-delivery-limit"}
    assert int(queue.arguments["x-delivery-limit"]) >= 2**31 - 1


def _calls(names: frozenset[str]) -> Iterator[tuple[str, dict[str | None, ast.expr]]]:
    """Yield place and keyword arguments of each call of these methods in the product."""
    for path in python_files(*PACKAGES):
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in names:
                keywords = {keyword.arg: keyword.value for keyword in node.keywords}
                yield place(path, node.lineno), keywords


def _is_set(keywords: dict[str | None, ast.expr], name: str) -> bool:
    return name in keywords and ast.dump(keywords[name]) != ast.dump(ast.Constant(value=False))


def test_nobody_asks_for_a_prefetch_of_the_whole_connection() -> None:
    calls = list(_calls(_CONSUMPTIONS))

    assert len(calls) >= 2
    assert [where for where, keywords in calls if _is_set(keywords, "global_")] == []


def test_no_queue_is_transient_without_being_somebodys_own() -> None:
    calls = list(_calls(_DECLARATIONS))
    transient = [
        where
        for where, keywords in calls
        if not any(_is_set(keywords, name) for name in ("durable", "passive", "exclusive"))
    ]

    assert calls != []
    assert transient == []


def test_the_log_of_events_is_a_stream_that_is_bounded_in_time_and_on_disk() -> None:
    (queue,) = [queue for queue in queues(1, EventQueues(log_days=3)) if queue.name == EVENTS_LOG]

    assert queue.arguments["x-queue-type"] == "stream"
    assert queue.arguments["x-max-age"] == "3D"
    # What is too old is removed in whole segments: many fit into the bound.
    octets_max = int(queue.arguments["x-max-length-bytes"])
    assert int(queue.arguments["x-stream-max-segment-size-bytes"]) * 100 < octets_max
