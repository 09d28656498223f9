"""What was heard over HTTP: as the checks compare it, and what its listeners found themselves."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from tools.chaos.events import EventRecorder
from tools.chaos.following import FollowedEvent
from tools.chaos.invariants.verdict import LISTED_MAX, Breach, others
from tools.chaos.listening import Listeners

QUEUE: Final = "queue"
STREAM: Final = "stream"


def told_in_queue(events: EventRecorder) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each event that a queue had."""
    for event in events.read():
        yield QUEUE, event.event_id, event.event_type, event.transaction_id, None, None


def told_over_http(listeners: Listeners) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each event that was followed, or taken from a webhook."""
    for event in listeners.follower.read():
        yield _row(STREAM, event)
    for arrival in listeners.endpoint.read():
        yield _row(arrival.hook, arrival.event)


def hooks_of(listeners: Listeners) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each webhook."""
    for hook in listeners.endpoint.hooks:
        yield hook.name, hook.since, hook.event_types, hook.wallet_ids


def heard_breaches(listeners: Listeners) -> Iterator[Breach]:
    """Yield what was found as it arrived: events too early, gaps that were told, wrong requests."""
    follower, endpoint = listeners.follower, listeners.endpoint
    for event, fault in islice(follower.untimely, LISTED_MAX):
        yield Breach("L", f"transaction {event.transaction_id}", fault)
    yield from others("L", "untimely_events", len(follower.untimely) - LISTED_MAX)
    if follower.resets:
        yield Breach("L", "the log", f"a gap was told {follower.resets} times, and nobody made one")
    for subject, fault in islice(endpoint.faults, LISTED_MAX):
        yield Breach("D", f"webhook {subject}", fault)
    yield from others("D", "wrong_requests", len(endpoint.faults) - LISTED_MAX)


def _row(listener: str, event: FollowedEvent) -> tuple[Any, ...]:
    return (
        listener,
        event.event_id,
        event.event_type,
        event.transaction_id,
        event.occurred_at,
        list(event.wallet_ids),
    )
