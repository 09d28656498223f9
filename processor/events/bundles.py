"""Bundles: the events of a flight in one message, for the log; pure.

A line is the body of an event as `ackledger.events` has it. Whoever signs an event of the log does
so with these octets.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from contracts.messages import EVENT_BUNDLE_TYPE, JSON_LINES
from contracts.topology import EVENT_BUNDLES
from runtime.amqp.publisher import Outgoing

OCTETS_MAX: Final = 1024 * 1024
"""Of a bundle; an event that is larger goes alone. Brokers take 16 MiB and more."""


def bundles_of(events: Sequence[Outgoing]) -> list[Outgoing]:
    """Return what tells the log of events, in their order: one message unless they are large."""
    return [
        Outgoing(
            exchange=EVENT_BUNDLES,
            routing_key="",
            body=b"\n".join(bodies),
            type=EVENT_BUNDLE_TYPE,
            content_type=JSON_LINES,
        )
        for bodies in _cut([_line(event.body) for event in events])
    ]


def _line(body: bytes) -> bytes:
    # In JSON the end of a line is a space between two tokens, or escaped.
    return body.replace(b"\n", b" ")


def _cut(bodies: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield bodies that travel together; nearly always all of them do."""
    start = size = 0
    for number, body in enumerate(bodies):
        if size and size + len(body) > OCTETS_MAX:
            yield bodies[start:number]
            start, size = number, 0
        size += len(body)
    if bodies:
        yield bodies[start:]
