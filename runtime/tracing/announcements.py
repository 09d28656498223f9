"""The spans of announcements: a transaction may be announced by the ingress, and again later."""

import time
from collections.abc import Mapping
from uuid import UUID

from runtime.tracing.spans import (
    NO_TRACER,
    UNNAMED,
    Attributes,
    Span,
    SpanKind,
    TraceContext,
    Tracer,
    child_of,
)


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
