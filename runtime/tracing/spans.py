"""Spans, what takes them, and those of announcements.

Nothing here imports OpenTelemetry: a process that is not traced does not load what exports spans.

A span is recorded once, when all of it is known. There is no current span: what a span belongs to
is the traceparent that its request, its message or its row carries (W3C Trace Context).
"""

import time
from collections.abc import Mapping, Sequence
from enum import IntEnum
from random import Random
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from yarl import URL

from contracts.identifiers import is_sampled
from runtime.service.settings import TracingSettings

AttributeValue: TypeAlias = str | int
Attributes: TypeAlias = Mapping[str, AttributeValue]

UNNAMED: Final[Attributes] = MappingProxyType({})
"""Of a server that nobody named."""

_IDS: Final = Random()  # noqa: S311  # seeded by the system; ids are no secrets
_TRACE_BITS: Final = 128
_SPAN_BITS: Final = 64
_RANDOM_BITS: Final = 56
_DEFAULT_PORTS: Final = {"postgresql": 5432, "postgres": 5432, "amqp": 5672, "amqps": 5671}
_PATH: Final = "/v1/traces"


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


def tracer_of(settings: TracingSettings, *, service: str) -> Tracer:
    """Return what sends spans where the settings say; without a place, what drops them."""
    url = settings.traces_url
    if url is None and settings.otlp_endpoint is not None:
        # OpenTelemetry's own variable names the receiver of all signals.
        url = settings.otlp_endpoint.rstrip("/") + _PATH
    if url is None or settings.traces_ratio == 0:
        return NO_TRACER
    # Not at the top: the library costs 7 MB and a fifth of a second that nobody else should pay.
    from runtime.tracing.exporting import otlp_tracer  # noqa: PLC0415

    return otlp_tracer(url, service=service, ratio=settings.traces_ratio)


class AnnouncementTraces:
    """Records each announcement beneath the span that the transaction's row names."""

    def __init__(self, tracer: Tracer = NO_TRACER, *, broker: Attributes = UNNAMED) -> None:
        """`broker` are the attributes that name it."""
        self._tracer = tracer
        self.is_on = tracer.is_on
        self._send: Attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            **broker,
        }

    def announced(
        self,
        queue: str,
        traced: Mapping[UUID, TraceContext],
        *,
        began_ns: int,
        is_confirmed: bool = True,
    ) -> None:
        """Record a message that named these transactions; it was confirmed now, or never will be.

        `traced` holds those whose traces are kept.
        """
        ended_ns = time.time_ns()
        for transaction_id, parent in traced.items():
            self._tracer.record(
                Span(
                    f"publish {queue}",
                    SpanKind.PRODUCER,
                    child_of(parent),
                    began_ns,
                    ended_ns,
                    {
                        **self._send,
                        # The default exchange: the routing key is the queue, and the destination.
                        "messaging.destination.name": queue,
                        "messaging.rabbitmq.destination.routing_key": queue,
                        "ackledger.transaction.id": str(transaction_id),
                    },
                    parent=parent,
                    is_error=not is_confirmed,
                )
            )
