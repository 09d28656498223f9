"""The spans of requests, and the names that tie a request to its trace."""

import time
from typing import Final

from contracts.identifiers import valid_traceparent
from contracts.operations import OPERATIONS
from ingress.calls import Names, names_of
from runtime.tracing.spans import (
    NO_TRACER,
    AttributeValue,
    Span,
    SpanKind,
    Tracer,
    began_before,
    own_traceparent,
    sampled_context,
)

_ROUTES: Final = {one.operation_id: (one.method, one.path) for one in OPERATIONS}
_OURS: Final = 500
"""From this status on a failure is the server's: what OpenTelemetry calls an error of its span."""


class RequestTraces:
    """Names requests, and records a span of each that was answered, if its trace is kept."""

    def __init__(self, tracer: Tracer = NO_TRACER) -> None:
        self._tracer = tracer
        self.is_on = tracer.is_on

    def names_of(self, traceparent: str | None, request_id: str | None) -> Names:
        """Return what a request is traced by: where it is traced, its own span in that trace.

        A client's trace is kept if the client keeps it; of those that begin here a part.
        """
        names = names_of(traceparent, request_id)
        if not self.is_on:
            return names
        own, request_id = names
        if own == traceparent:
            return own_traceparent(own), request_id
        flags = "01" if self._tracer.is_chosen(int(own[3:35], 16)) else "00"
        return own[:-2] + flags, request_id

    def answered(
        self,
        operation_id: str,
        names: Names,
        *,
        received: str | None,
        status: int,
        started: float,
        ended: float | None = None,
    ) -> None:
        """Record a request of which the head was there at `started` (perf_counter).

        `received` is the client's own traceparent, valid or not; `ended` when the request was
        answered, if that is not now.
        """
        context = sampled_context(names[0])
        if context is None:
            return
        method, route = _ROUTES[operation_id]
        attributes: dict[str, AttributeValue] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        if status >= _OURS:
            attributes["error.type"] = str(status)
        now, moment = time.time_ns(), time.perf_counter()
        self._tracer.record(
            Span(
                f"{method} {route}",
                SpanKind.SERVER,
                context,
                began_before(now, moment - started),
                began_before(now, 0.0 if ended is None else moment - ended),
                attributes,
                parent=sampled_context(valid_traceparent(received)),
                is_error=status >= _OURS,
            )
        )
