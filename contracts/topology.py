"""The broker's topology: exchanges, queues and bindings.

`migrate` declares them. Every argument here works on RabbitMQ 3.10 and on 4.x.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

TRANSACTIONS_EXCHANGE: Final = "ackledger.transactions"
EVENTS_EXCHANGE: Final = "ackledger.events"
EVENT_BUNDLES: Final = "ackledger.events.bundles"
"""The same events, many in one message, for the log and for whoever takes all: a message each would
cost the broker more than all else that it does for a transaction."""
DEAD_LETTERS: Final = "ackledger.dead-letters"
"""The name of the dead-letter exchange and of its queue."""
NOTIFICATIONS: Final = "ackledger.notifications"
"""The notifier's queue: events of which people are told."""
NOTIFICATIONS_MAX: Final = 200_000
"""Events that wait while no notifier runs, some hundred megabytes. The relay keeps what a full
queue refuses, and sets it aside after an hour."""
EVENTS_LOG: Final = "ackledger.events.log"
"""The stream that keeps all events for those who read them over HTTP, from any moment on."""
EVENTS_LOG_DAYS: Final = 7
EVENTS_LOG_OCTETS_MAX: Final = 20 * 1024**3
"""Of disk, whatever the number of days: some ten million events."""
EVENTS_LOG_SEGMENT_OCTETS: Final = 64 * 1024**2
"""What is kept for too long is removed in pieces of this size."""

# Connection losses count as deliveries too, so the limit is generous: attempts that mean something
# are counted in PostgreSQL.
DELIVERY_LIMIT: Final = 1000
NO_DELIVERY_LIMIT: Final = 2**31 - 1
"""As good as none. Said outright: where nothing is said, RabbitMQ 4 takes 20, and then drops what
has no dead-letter exchange. Its -1 for none is unknown to 3.10."""

Argument = str | int | bool


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: Literal["x-consistent-hash", "topic", "fanout"]


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue, and its one binding: made, or taken away, as `is_bound` says."""

    name: str
    exchange: str
    binding_key: str
    arguments: dict[str, Argument] = field(default_factory=dict)
    is_bound: bool = True
    former_exchange: str | None = None
    """To which it was bound by "#" before, and is not any more."""


EXCHANGES: Final = (
    Exchange(TRANSACTIONS_EXCHANGE, "x-consistent-hash"),
    Exchange(EVENTS_EXCHANGE, "topic"),
    Exchange(EVENT_BUNDLES, "fanout"),
    Exchange(DEAD_LETTERS, "fanout"),
)

_DEAD_LETTER_QUEUE: Final = Queue(
    name=DEAD_LETTERS,
    exchange=DEAD_LETTERS,
    binding_key="",
    # No limit of length, age or deliveries: a dead letter waits until it is stored.
    arguments={"x-queue-type": "quorum", "x-delivery-limit": NO_DELIVERY_LIMIT},
)

_GIVEN_UP_TO_DEAD_LETTERS: Final[dict[str, Argument]] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-dead-letter-exchange": DEAD_LETTERS,
    # At-least-once dead-lettering needs reject-publish: both keep a full queue from losing.
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


BINDING_WEIGHT: Final = "1"
"""A consistent-hash binding's key is its weight."""
INTAKE_PARTITION: Final = 0
"""Its queue takes what upstream systems publish, and announces to others what those post."""


def partition_queue(partition: int) -> str:
    """Return the queue's name of one partition, counted from 0."""
    return f"{TRANSACTIONS_EXCHANGE}.{partition}"


@dataclass(frozen=True, slots=True)
class EventQueues:
    """Which of our own queues take events. Each costs: what no queue takes is not even built."""

    notify_money: bool = False
    """People are told of money, so events are sent to the notifier."""
    is_log_kept: bool = False
    log_days: int = EVENTS_LOG_DAYS


NO_EVENTS: Final = EventQueues()


def queues(partitions: int, events: EventQueues = NO_EVENTS) -> list[Queue]:
    """Return every queue of a system with so many partitions."""
    return [
        _DEAD_LETTER_QUEUE,
        _notifications(is_bound=events.notify_money),
        _events_log(is_bound=events.is_log_kept, days=events.log_days),
        *(_partition(number) for number in range(partitions)),
    ]


def _notifications(*, is_bound: bool) -> Queue:
    return Queue(
        name=NOTIFICATIONS,
        exchange=EVENTS_EXCHANGE,
        binding_key="transaction.completed.*.*",
        arguments={**_GIVEN_UP_TO_DEAD_LETTERS, "x-max-length": NOTIFICATIONS_MAX},
        is_bound=is_bound,
    )


def _events_log(*, is_bound: bool, days: int) -> Queue:
    return Queue(
        name=EVENTS_LOG,
        exchange=EVENT_BUNDLES,
        binding_key="",
        arguments={
            "x-queue-type": "stream",
            "x-max-age": f"{days}D",
            "x-max-length-bytes": EVENTS_LOG_OCTETS_MAX,
            "x-stream-max-segment-size-bytes": EVENTS_LOG_SEGMENT_OCTETS,
        },
        is_bound=is_bound,
        former_exchange=EVENTS_EXCHANGE,
    )


def _partition(number: int) -> Queue:
    return Queue(
        name=partition_queue(number),
        exchange=TRANSACTIONS_EXCHANGE,
        binding_key=BINDING_WEIGHT,
        arguments={**_GIVEN_UP_TO_DEAD_LETTERS, "x-single-active-consumer": True},
        # All of upstream's messages come in by the first queue, in their order: which one a hash
        # exchange chooses may change whenever the broker restarts (3.10 to 4.2). Releases before
        # bound every partition.
        is_bound=number == INTAKE_PARTITION,
    )
