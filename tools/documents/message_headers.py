"""Headers and AMQP properties of messages, as JSON schemas."""

from typing import Any, Final

from contracts import messages
from contracts.messages import CLOUD_EVENTS_SOURCE
from contracts.representations.examples import TRACEPARENT

Json = dict[str, Any]

_TRACE: Final[Json] = {
    messages.TRACEPARENT_HEADER: {
        "type": "string",
        "description": "W3C trace context",
        "examples": [TRACEPARENT],
    },
    messages.REQUEST_ID_HEADER: {
        "type": "string",
        "description": "The request that this message comes from",
        "examples": ["checkout-7f3a"],
    },
}

EVENT_HEADERS: Final[Json] = {
    "type": "object",
    "description": "CloudEvents 1.0 in the binary mode of its AMQP binding, and the trace.",
    "properties": {
        "cloudEvents_specversion": {"type": "string", "const": "1.0"},
        "cloudEvents_id": {
            "type": "string",
            "format": "uuid",
            "description": "The `event_id`: with `cloudEvents_source` it names the event",
        },
        "cloudEvents_source": {"type": "string", "const": CLOUD_EVENTS_SOURCE},
        "cloudEvents_type": {"type": "string", "examples": ["transaction.completed"]},
        "cloudEvents_subject": {
            "type": "string",
            "format": "uuid",
            "description": "The transaction",
        },
        "cloudEvents_time": {"type": "string", "format": "date-time"},
        **_TRACE,
    },
}
ANY_HEADERS: Final[Json] = {"type": "object"}
TRACE_HEADERS: Final[Json] = {"type": "object", "properties": _TRACE}

DEAD_LETTER_HEADERS: Final[Json] = {
    "type": "object",
    "description": "The message's own headers, and these. Dead letters that the broker itself "
    "makes have its `x-death` instead.",
    "properties": {
        messages.REASON_HEADER: {
            "type": "string",
            "enum": [reason.value for reason in messages.DeadLetterReason],
        },
        messages.DETAIL_HEADER: {"type": "string"},
        messages.QUEUE_HEADER: {"type": "string", "description": "The queue that it stood in"},
        messages.SUBMITTER_HEADER: {"type": "string"},
        messages.TRANSACTION_HEADER: {"type": "string", "format": "uuid"},
        messages.REPLY_TO_HEADER: {
            "type": "string",
            "description": "Where the result was to go, with the reason `reply_not_sent`",
        },
        messages.CORRELATION_HEADER: {
            "type": "string",
            "description": "The result's correlation id; octets that are no visible ASCII as %XX",
        },
        **_TRACE,
    },
}

REQUESTED_PROPERTIES: Final[Json] = {
    "type": "object",
    "required": ["user_id", "delivery_mode"],
    "properties": {
        "user_id": {
            "type": "string",
            "description": "The submitter: the broker refuses any but the connection's own user",
        },
        "delivery_mode": {"const": 2, "description": "Persistent"},
        "content_type": {"const": messages.CONTENT_TYPE},
        "type": {"const": messages.REQUESTED_TYPE},
        "reply_to": {
            "type": "string",
            "description": (
                "A queue for the result, if one is wanted: amq.rabbitmq.reply-to, or a queue "
                "whose name begins with the user and a point; to any other no result is sent"
            ),
        },
        "correlation_id": {
            "type": "string",
            "description": "Repeated in the result, byte for byte",
        },
    },
}
