"""The AsyncAPI 3.0 document, from the messages, the topology and the views."""

from typing import Any, Final, Literal

from pydantic import BaseModel

from contracts import messages
from contracts.messages import RecordedMessage, RequestedBatchMessage, RequestedMessage
from contracts.representations import examples
from contracts.representations.event import TransactionEvent
from contracts.representations.pages import TransactionResultMessage
from contracts.topology import (
    DEAD_LETTERS,
    EVENT_BUNDLES,
    EVENTS_EXCHANGE,
    EXCHANGES,
    NOTIFICATIONS,
    TRANSACTIONS_EXCHANGE,
    partition_queue,
    queues,
)
from ledger.words import TransactionType
from tools.documents.message_headers import (
    ANY_HEADERS,
    DEAD_LETTER_HEADERS,
    EVENT_HEADERS,
    REQUESTED_PROPERTIES,
    TRACE_HEADERS,
)
from tools.documents.schemas import Mode, component_schemas, reference
from tools.documents.texts import ASYNCAPI_INTRODUCTION, LICENCE

Json = dict[str, Any]

_BINDING_VERSION: Final = "0.3.0"
_MODELS: Final[tuple[tuple[type[BaseModel], Mode], ...]] = (
    (RequestedMessage, "validation"),
    (RequestedBatchMessage, "validation"),
    (RecordedMessage, "validation"),
    (TransactionResultMessage, "serialization"),
    (TransactionEvent, "serialization"),
)
_REPLY: Final[Json] = {
    "address": {
        "location": "$message.header#/reply_to",
        "description": "The AMQP property reply_to; the answer repeats correlation_id",
    },
    "channel": {"$ref": "#/channels/results"},
    "messages": [{"$ref": "#/channels/results/messages/result"}],
}


def asyncapi_document(*, release: str) -> Json:
    """Return the document; `release` is the distribution's version."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Ackledger",
            "version": release,
            "description": ASYNCAPI_INTRODUCTION,
            "license": {"name": LICENCE["name"]},
        },
        "defaultContentType": messages.CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "{host}",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "RabbitMQ 3.10 or later, plugin rabbitmq_consistent_hash_exchange",
                "variables": {"host": {"default": "localhost:5672"}},
                "security": [{"$ref": "#/components/securitySchemes/broker_user"}],
            }
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "schemas": component_schemas(_MODELS),
            "messages": _messages(),
            "securitySchemes": {
                "broker_user": {
                    "type": "userPassword",
                    "description": "A user of the broker; its name is the submitter",
                }
            },
        },
    }


def _channels() -> Json:
    return {
        "transactions": {
            "address": "{wallet_id}",
            "title": TRANSACTIONS_EXCHANGE,
            "description": (
                "The exchange that upstream systems publish to. Its type is x-consistent-hash: "
                "equal routing keys reach the same queue."
            ),
            "parameters": {
                "wallet_id": {
                    "description": (
                        "The wallet that is debited; for a deposit, credited. For a capture or a "
                        "release the hold's source, for a reversal the reversed transaction's, for "
                        "a journal the wallet of its first leg that is debited"
                    )
                }
            },
            "messages": _references("requested", "requested_batch", "recorded"),
            "bindings": {"amqp": _exchange(TRANSACTIONS_EXCHANGE)},
        },
        "partition": {
            "address": partition_queue(0).removesuffix("0") + "{partition}",
            "description": "The queue of one partition, with a single active consumer.",
            "parameters": {
                "partition": {"description": "0 to ACKLEDGER_PARTITIONS - 1", "default": "0"}
            },
            "messages": _references("requested", "requested_batch", "recorded"),
            "bindings": {"amqp": _queue(partition_queue(0))},
        },
        "results": {
            "address": None,
            "description": (
                "The queue that an upstream message names as its `reply_to`: direct reply-to, or "
                "one whose name begins with the sender's user and a point."
            ),
            "messages": _references("result"),
        },
        "events": _events_channel(),
        "event_bundles": _bundles_channel(),
        **_keepers_channels(),
    }


def _keepers_channels() -> Json:
    return {
        "notifications": {
            "address": NOTIFICATIONS,
            "description": (
                "The notifier's own queue, bound to the events of what is posted where "
                "ACKLEDGER_NOTIFY_MONEY says so. Events for anybody else go to queues of their own."
            ),
            "messages": _references("event"),
            "bindings": {"amqp": _queue(NOTIFICATIONS)},
        },
        "dead_letters": {
            "address": DEAD_LETTERS,
            "description": (
                "The queue of messages that cannot be processed, bound to the exchange of the "
                "same name; they never expire."
            ),
            "messages": _references("dead_letter"),
            "bindings": {"amqp": _queue(DEAD_LETTERS)},
        },
    }


def _events_channel() -> Json:
    event_types = TransactionEvent.model_json_schema()["properties"]["event_type"]["enum"]
    return {
        "address": "transaction.{change}.{type}.{currency}",
        "title": EVENTS_EXCHANGE,
        "description": (
            "What became of transactions: bind a queue of your own. Whoever wants all of them "
            "takes them in bundles. Without a queue, `GET /v1/events` gives the same over HTTP, "
            "after any event of the last days, and webhooks have them sent."
        ),
        "parameters": {
            "change": {"enum": [event.removeprefix("transaction.") for event in event_types]},
            "type": {"enum": [kind.value for kind in TransactionType]},
            "currency": {
                "description": (
                    "ISO 4217, or a registered asset; `several` for a transaction that has no one "
                    "currency, such as a journal"
                ),
                "examples": ["USD", "POINTS8"],
            },
        },
        "messages": _references("event"),
        "bindings": {"amqp": _exchange(EVENTS_EXCHANGE)},
    }


def _bundles_channel() -> Json:
    return {
        "address": EVENT_BUNDLES,
        "title": EVENT_BUNDLES,
        "description": (
            f"All events, up to {messages.EVENT_BUNDLE_MAX} in one message: bind a queue of your "
            f"own here instead of to `{EVENTS_EXCHANGE}`. A routing key chooses nothing. One relay "
            "sends events in the order of posting, in a message and from message to message; what "
            "comes again may be divided among messages in another way."
        ),
        "messages": _references("event_bundle"),
        "bindings": {"amqp": _exchange(EVENT_BUNDLES)},
    }


def _operations() -> Json:
    return {
        "request_transactions": {
            **_published(
                "receive",
                "transactions",
                ("requested", "requested_batch"),
                "Upstream systems submit transactions",
            ),
            "reply": _REPLY,
        },
        "announce_recorded_transactions": _published(
            "send",
            "transactions",
            ("recorded",),
            "The ingress and the reconciler ask for recorded transactions to be posted",
        ),
        "post_transactions": _consumed(
            "partition",
            ("requested", "requested_batch", "recorded"),
            "The processor posts a batch in one commit, then acknowledges",
        ),
        "publish_events": _published(
            "send", "events", ("event",), "Tells what became of a transaction, at least once"
        ),
        "publish_event_bundles": _published(
            "send",
            "event_bundles",
            ("event_bundle",),
            "Tells the same of many transactions in one message, to the log and to whoever asks",
        ),
        "bury_messages": _published(
            "send",
            "dead_letters",
            ("dead_letter",),
            "The processor sets aside what cannot be processed",
        ),
        "store_dead_letters": _consumed(
            "dead_letters",
            ("dead_letter",),
            "Dead letters are stored for operators to replay or discard",
        ),
    }


def _messages() -> Json:
    return {
        "requested": {
            **_message(messages.REQUESTED_TYPE, RequestedMessage, examples.REQUESTED_MESSAGE),
            "title": "One transaction to post",
            "headers": TRACE_HEADERS,
            "x-amqp-properties": REQUESTED_PROPERTIES,
        },
        "requested_batch": {
            **_message(
                messages.REQUESTED_TYPE, RequestedBatchMessage, examples.REQUESTED_BATCH_MESSAGE
            ),
            "title": "Many transactions to post, in their order",
            "headers": TRACE_HEADERS,
            "x-amqp-properties": REQUESTED_PROPERTIES,
        },
        "recorded": {
            **_message(messages.RECORDED_TYPE, RecordedMessage, examples.RECORDED_MESSAGE),
            "title": "Recorded transactions to post; between Ackledger's own processes",
            "headers": TRACE_HEADERS,
        },
        "result": {
            **_message(messages.RESULT_TYPE, TransactionResultMessage, examples.RESULT_MESSAGE),
            "title": "What became of a message's transactions",
            "headers": ANY_HEADERS,
        },
        "event": {
            **_message("transaction.<change>", TransactionEvent, examples.TRANSACTION_EVENT),
            "title": "A transaction's change of state; duplicates share event_id",
            "headers": EVENT_HEADERS,
        },
        "event_bundle": _bundle_message(),
        "dead_letter": {
            "name": "dead_letter",
            "title": "A message that cannot be processed, its body unchanged",
            "headers": DEAD_LETTER_HEADERS,
            "payload": {"description": "The body of the message, whatever it was"},
        },
    }


def _bundle_message() -> Json:
    most = messages.EVENT_BUNDLE_MAX
    return {
        **_message(messages.EVENT_BUNDLE_TYPE, TransactionEvent, [examples.TRANSACTION_EVENT]),
        "title": f"Up to {most} events, a line of JSON each; duplicates share event_id",
        "contentType": messages.JSON_LINES,
        "headers": ANY_HEADERS,
        "payload": {
            "type": "array",
            "items": reference(TransactionEvent),
            "minItems": 1,
            "maxItems": most,
            "description": (
                "Written as lines, not as an array: an event a line, with a line feed between two "
                f"and none after the last, {messages.MESSAGE_BYTES_MAX:,} octets at most. "
                "CloudEvents' attributes are in each event: `id` is its `event_id`, `type` its "
                "`event_type`, `subject` its `id`, `time` its `occurred_at`."
            ),
        },
    }


def _message(message_type: str, model: type[BaseModel], example: Json | list[Json]) -> Json:
    document: Json = {
        "name": message_type,
        "contentType": messages.CONTENT_TYPE,
        "payload": reference(model),
        "examples": [{"payload": example}],
    }
    if "<" not in message_type:
        document["bindings"] = {
            "amqp": {"messageType": message_type, "bindingVersion": _BINDING_VERSION}
        }
    return document


def _references(*names: str) -> Json:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _published(
    action: Literal["send", "receive"], channel: str, names: tuple[str, ...], summary: str
) -> Json:
    """An operation whose messages are published persistent and mandatory, by us or to us."""
    binding = {"deliveryMode": 2, "mandatory": True, "bindingVersion": _BINDING_VERSION}
    return _operation(action, channel, names, summary, binding)


def _consumed(channel: str, names: tuple[str, ...], summary: str) -> Json:
    """An operation whose messages are acknowledged."""
    binding = {"ack": True, "bindingVersion": _BINDING_VERSION}
    return _operation("receive", channel, names, summary, binding)


def _operation(
    action: str, channel: str, names: tuple[str, ...], summary: str, binding: Json
) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
        "bindings": {"amqp": binding},
    }


def _exchange(name: str) -> Json:
    kind = next(exchange.type for exchange in EXCHANGES if exchange.name == name)
    document: Json = {"name": name, "durable": True, "autoDelete": False}
    # The AMQP binding knows only the standard's own types, so another stands under its own word.
    document["x-type" if kind.startswith("x-") else "type"] = kind
    return {"is": "routingKey", "exchange": document, "bindingVersion": _BINDING_VERSION}


def _queue(name: str) -> Json:
    queue = next(queue for queue in queues(1) if queue.name == name)
    return {
        "is": "queue",
        "queue": {
            "name": name,
            "durable": True,
            "exclusive": False,
            "autoDelete": False,
            "x-arguments": dict(sorted(queue.arguments.items())),
        },
        "bindingVersion": _BINDING_VERSION,
    }
