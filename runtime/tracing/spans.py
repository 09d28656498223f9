"""Spans, and what takes them.

Nothing here imports OpenTelemetry: a process that is not traced does not load what exports spans.

A span is recorded once, when all of it is known. There is no current span: what a span belongs to
is the traceparent that its request, its message or its row carries (W3C Trace Context).
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from random import Random
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from yarl import URL

from contracts.identifiers import is_sampled

AttributeValue: TypeAlias = str | int
Attributes: TypeAlias = Mapping[str, AttributeValue]

UNNAMED: Final[Attributes] = MappingProxyType({})
"""Of a server that nobody named."""

_IDS: Final = Random()  # noqa: S311  # seeded by the system; ids are no secrets
_TRACE_BITS: Final = 128
_SPAN_BITS: Final = 64
_RANDOM_BITS: Final = 56
_DEFAULT_PORTS: Final = {"postgresql": 5432, "postgres": 5432, "amqp": 5672, "amqps": 5671}


class SpanKind(IntEnum):
    """What a span is to its parent, with OpenTelemetry's numbers."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


class TraceContext(NamedTuple):
    """A span that is kept, by its ids."""

    trace_id: int
    span_id: int


class Span(NamedTuple):
    """Something that was done. Times are nanoseconds since 1970."""

    name: str
    kind: SpanKind
    context: TraceContext
    began_ns: int
    ended_ns: int
    attributes: Attributes
    parent: TraceContext | None = None
    links: Sequence[TraceContext] = ()
    is_error: bool = False


class Tracer:
    """Takes spans. This one drops them: what a process uses that is not traced."""

    is_on = False
    """Whether anybody wants spans: to be asked before one is put together."""

    def record(self, span: Span) -> None:
        """Take a span that ended; never waits, never raises."""

    def is_chosen(self, trace_id: int) -> bool:  # noqa: ARG002
        """Whether a trace that begins here is kept."""
        return True

    async def close(self) -> None:
        """Hand on what is left, within a bound."""


NO_TRACER: Final = Tracer()


def is_within(trace_id: int, ratio: float) -> bool:
    """Whether a trace is one of the `ratio` that is kept: every process decides alike."""
    return trace_id & (1 << _RANDOM_BITS) - 1 < ratio * (1 << _RANDOM_BITS)


def sampled_context(traceparent: str | None) -> TraceContext | None:
    """Return the span that a valid traceparent names, if its trace is kept."""
    if traceparent is None or not is_sampled(traceparent):
        return None
    return TraceContext(int(traceparent[3:35], 16), int(traceparent[36:52], 16))


def child_of(parent: TraceContext) -> TraceContext:
    """Return a new span in a trace."""
    return TraceContext(parent.trace_id, _bits(_SPAN_BITS))


def new_context() -> TraceContext:
    """Return the first span of a new trace."""
    return TraceContext(_bits(_TRACE_BITS), _bits(_SPAN_BITS))


def own_traceparent(received: str) -> str:
    """Return a traceparent for a span of our own in the trace, and with the choice, of another."""
    return f"{received[:36]}{_bits(_SPAN_BITS):016x}{received[52:]}"


def began_before(ended_ns: int, seconds: float) -> int:
    """Return when something began that took so long."""
    return ended_ns - int(seconds * 1_000_000_000)


def server_of(url: str) -> Attributes:
    """Return the attributes that name a server, without whoever logs in there."""
    place = URL(url)
    port = place.port or _DEFAULT_PORTS.get(place.scheme)
    found: dict[str, AttributeValue] = {"server.address": place.host or "localhost"}
    return found if port is None else {**found, "server.port": port}


def _bits(count: int) -> int:
    """Return a random number that is not 0, which names nothing."""
    return _IDS.getrandbits(count) or 1
