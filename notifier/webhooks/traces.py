"""The spans of webhooks, each beneath the span that its transaction's row names."""

import time
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from notifier.webhooks.egress import Outcome
from runtime.tracing.spans import (
    NO_TRACER,
    AttributeValue,
    Span,
    SpanKind,
    Tracer,
    child_of,
    sampled_context,
)

_REFUSED_FROM: Final = 400
"""From this status on an answer is an error to whoever asked, as OpenTelemetry has it."""


class WebhookTraces:
    """Records each attempt to deliver an event; where it goes is a client's text, and not said."""

    def __init__(self, tracer: Tracer = NO_TRACER) -> None:
        self._tracer = tracer
        self.is_on = tracer.is_on

    def attempted(
        self, delivery: asyncpg.Record | Mapping[str, Any], outcome: Outcome, *, began_ns: int
    ) -> None:
        """Record an attempt that ended now at a claimed delivery, if its trace is kept."""
        parent = sampled_context(delivery["traceparent"])
        if parent is None:
            return
        attributes: dict[str, AttributeValue] = {
            "http.request.method": "POST",
            "ackledger.webhook.id": str(delivery["webhook_id"]),
        }
        if delivery["attempts"] > 1:
            attributes["http.request.resend_count"] = delivery["attempts"] - 1
        if outcome.status is not None:
            attributes["http.response.status_code"] = outcome.status
        is_error = outcome.status is None or outcome.status >= _REFUSED_FROM
        if is_error:
            # Not the error's text, which may hold the receiver's name.
            attributes["error.type"] = "_OTHER" if outcome.status is None else str(outcome.status)
        self._tracer.record(
            Span(
                "POST webhook",
                SpanKind.CLIENT,
                child_of(parent),
                began_ns,
                time.time_ns(),
                attributes,
                parent=parent,
                is_error=is_error,
            )
        )
