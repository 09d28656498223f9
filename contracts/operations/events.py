"""The calls on events: following them, and webhooks, by which they are sent."""

from typing import Final

from contracts.operations import parameters
from contracts.operations.shapes import (
    BODY_PROBLEMS,
    EVENT_STREAM,
    LIST_PROBLEMS,
    READ_PROBLEMS,
    Operation,
    Parameter,
    Response,
    ResponseHeader,
    Tag,
)
from contracts.problems import ProblemCode
from contracts.representations import examples
from contracts.representations.pages import EventPage
from contracts.representations.webhook import (
    Webhook,
    WebhookDelivery,
    WebhookDeliveryPage,
    WebhookPage,
    WebhookRecoveryResult,
    WebhookSecret,
    WebhookWithSecret,
)
from contracts.requests.webhook import WebhookChange, WebhookRecovery, WebhookRequest
from contracts.scopes import EVENTS_SCOPE, Scope
from contracts.webhooks import EVENT_TYPES, DeliveryStatus

EVENT_ID_MAX: Final = 40
"""Characters; longer text is no id of an event."""

_LAST_EVENT_ID: Final = Parameter(
    name="Last-Event-ID",
    place="header",
    description=(
        "The `id` of the last event that you have: the answer begins with the one after it. "
        "Browsers' `EventSource` sends it by itself when it connects again."
    ),
    schema={"type": "string", "maxLength": EVENT_ID_MAX},
    example="4711-0d4f3a9c",
)
_ID_SCHEMA: Final = {"type": "string", "maxLength": EVENT_ID_MAX}

_STREAM_EXAMPLE: Final = (
    "retry: 1000\n\n"
    'id: 4711-0d4f3a9c\nevent: transaction.completed\ndata: {"event_id":"…",…}\n\n'
    ": heartbeat\n\n"
)

_FOLLOW: Final = Operation(
    operation_id="follow_events",
    method="GET",
    path="/v1/events",
    tag=Tag.EVENTS,
    summary="Follow events",
    description=(
        "Server-sent events, with `Accept: text/event-stream` or without `Accept`: what became of "
        "transactions, from now on or after `Last-Event-ID`, from any ingress, after any restart. "
        "`event` is the type, `data` the event as JSON, the same as on the exchange "
        "`ackledger.events`; its transaction can be read by then. An event may come twice with the "
        "same `event_id`. A comment comes as a heartbeat when nothing else does. `event: reset` "
        "says that events may have been missed, since the one that you named is not kept any more: "
        "read again what you follow. The answer ends when the key or token does; connect again, "
        "with `Last-Event-ID`, whenever it ends.\n\n"
        "With `Accept: application/json`, the same as pages: `after` is the `id`, `last_id` or "
        "`next_cursor` of what came before; without it, from the oldest event that is kept. A page "
        "may be shorter than `limit`, even empty, and still have a `next_cursor`.\n\n"
        "Callers that reach only what is theirs get the events of transactions that they "
        "submitted or that touch their wallets; of others' wallets they see no balance."
    ),
    scope=EVENTS_SCOPE,
    parameters=(
        parameters.query("wallet_id", "Only what names this wallet.", parameters.UUID_SCHEMA),
        parameters.query("transaction_id", "Only what became of this one.", parameters.UUID_SCHEMA),
        parameters.query(
            "type", "Only this type of event.", {"type": "string", "enum": list(EVENT_TYPES)}
        ),
        parameters.query("after", "Of pages: behind the event with this id.", _ID_SCHEMA),
        parameters.LIMIT,
        _LAST_EVENT_ID,
    ),
    responses=(
        Response(
            200,
            "Events, for as long as you stay, or a page of them",
            model=EventPage,
            example=examples.EVENT_PAGE,
            also_as={EVENT_STREAM: _STREAM_EXAMPLE},
        ),
    ),
    problems=(
        ProblemCode.WALLET_NOT_FOUND,
        ProblemCode.TRANSACTION_NOT_FOUND,
        ProblemCode.EVENTS_UNAVAILABLE,
        *READ_PROBLEMS,
    ),
)

EVENT_OPERATIONS: Final = (_FOLLOW,)


_ID: Final = parameters.path_id("webhook_id")
_REQUEST_EXAMPLES: Final = {
    "orders": {"summary": "All that completes", "value": examples.WEBHOOK_REQUEST}
}

_CREATE: Final = Operation(
    operation_id="create_webhook",
    method="POST",
    path="/v1/webhooks",
    tag=Tag.WEBHOOKS,
    summary="Create a webhook",
    description=(
        "Events are sent to `url` by POST as the Standard Webhooks specification has them: the "
        "body is the event, signed with the secret that this answer shows, once. What is not "
        "answered by 2xx within 15 s is sent again after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and "
        "10 h, under the same `webhook-id`; answer 410 to end it. A webhook that has taken nothing "
        "for five days is disabled. Callers that reach only what is theirs get their own events. "
        "What is sent follows what its owner may see at that moment, as `GET /v1/events` does: "
        "once no key of the client is in force, or the account is not active, nothing is."
    ),
    scope=Scope.WEBHOOKS_WRITE,
    also_scope=EVENTS_SCOPE,
    request=WebhookRequest,
    request_examples=_REQUEST_EXAMPLES,
    responses=(
        Response(
            201,
            "It is made",
            model=WebhookWithSecret,
            headers=(ResponseHeader.LOCATION,),
            example=examples.WEBHOOK_WITH_SECRET,
        ),
    ),
    problems=(ProblemCode.WALLET_NOT_FOUND, ProblemCode.WEBHOOK_LIMIT_REACHED, *BODY_PROBLEMS),
)

_LIST: Final = Operation(
    operation_id="list_webhooks",
    method="GET",
    path="/v1/webhooks",
    tag=Tag.WEBHOOKS,
    summary="List webhooks",
    description=(
        "Yours, the oldest first; for operators everybody's. With `transaction_id`, those that "
        "have a delivery of an event of that transaction, of the last 30 days."
    ),
    scope=Scope.WEBHOOKS_READ,
    parameters=(parameters.TRANSACTION_ID, parameters.CURSOR, parameters.LIMIT),
    responses=(Response(200, "A page", model=WebhookPage, example=examples.WEBHOOK_PAGE),),
    problems=LIST_PROBLEMS,
)

_READ: Final = Operation(
    operation_id="read_webhook",
    method="GET",
    path="/v1/webhooks/{webhook_id}",
    tag=Tag.WEBHOOKS,
    summary="Read a webhook",
    description="Without its secret, which nobody can read again.",
    scope=Scope.WEBHOOKS_READ,
    parameters=(_ID,),
    responses=(Response(200, "The webhook", model=Webhook, example=examples.WEBHOOK),),
    problems=(ProblemCode.WEBHOOK_NOT_FOUND, *READ_PROBLEMS),
)

_CHANGE: Final = Operation(
    operation_id="change_webhook",
    method="PATCH",
    path="/v1/webhooks/{webhook_id}",
    tag=Tag.WEBHOOKS,
    summary="Change a webhook",
    description=(
        "What the body does not name stays. `status: ACTIVE` sends again to one that was "
        "disabled; what came meanwhile is FAILED, and sent by `recover`."
    ),
    scope=Scope.WEBHOOKS_WRITE,
    also_scope=EVENTS_SCOPE,
    parameters=(_ID,),
    request=WebhookChange,
    request_examples={"enable": {"summary": "Enable it", "value": {"status": "ACTIVE"}}},
    responses=(Response(200, "It is changed", model=Webhook, example=examples.WEBHOOK),),
    problems=(ProblemCode.WEBHOOK_NOT_FOUND, ProblemCode.WALLET_NOT_FOUND, *BODY_PROBLEMS),
)

_DELETE: Final = Operation(
    operation_id="delete_webhook",
    method="DELETE",
    path="/v1/webhooks/{webhook_id}",
    tag=Tag.WEBHOOKS,
    summary="Delete a webhook",
    description="Nothing is sent to it any more; its deliveries are forgotten in time.",
    scope=Scope.WEBHOOKS_WRITE,
    parameters=(_ID,),
    responses=(Response(204, "It is deleted"),),
    problems=(ProblemCode.WEBHOOK_NOT_FOUND, *READ_PROBLEMS),
)

_ROTATE: Final = Operation(
    operation_id="rotate_webhook_secret",
    method="POST",
    path="/v1/webhooks/{webhook_id}/secret/rotate",
    tag=Tag.WEBHOOKS,
    summary="Rotate a webhook's secret",
    description=(
        "For a day deliveries are signed with both: `webhook-signature` then holds two signatures, "
        "of which one fits whichever secret you know."
    ),
    scope=Scope.WEBHOOKS_WRITE,
    parameters=(_ID,),
    responses=(
        Response(200, "The new secret", model=WebhookSecret, example=examples.WEBHOOK_SECRET),
    ),
    problems=(ProblemCode.WEBHOOK_NOT_FOUND, *READ_PROBLEMS),
)

_LIST_DELIVERIES: Final = Operation(
    operation_id="list_webhook_deliveries",
    method="GET",
    path="/v1/webhooks/{webhook_id}/deliveries",
    tag=Tag.WEBHOOKS,
    summary="List a webhook's deliveries",
    description="Of the last 30 days, the newest first, each with its attempts.",
    scope=Scope.WEBHOOKS_READ,
    parameters=(
        _ID,
        parameters.query(
            "status", "Only those in this status.", parameters.enum_schema(DeliveryStatus)
        ),
        parameters.TRANSACTION_ID,
        parameters.CURSOR,
        parameters.LIMIT,
    ),
    responses=(
        Response(200, "A page", model=WebhookDeliveryPage, example=examples.WEBHOOK_DELIVERY_PAGE),
    ),
    problems=(ProblemCode.WEBHOOK_NOT_FOUND, *LIST_PROBLEMS),
)

_RESEND: Final = Operation(
    operation_id="resend_webhook_delivery",
    method="POST",
    path="/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend",
    tag=Tag.WEBHOOKS,
    summary="Send a delivery again",
    description="At once, whatever became of it, under the same `webhook-id`.",
    scope=Scope.WEBHOOKS_WRITE,
    parameters=(_ID, parameters.path_id("delivery_id")),
    responses=(
        Response(202, "It is sent again", model=WebhookDelivery, example=examples.WEBHOOK_DELIVERY),
    ),
    problems=(
        ProblemCode.WEBHOOK_NOT_FOUND,
        ProblemCode.DELIVERY_NOT_FOUND,
        *READ_PROBLEMS,
    ),
)

_RECOVER: Final = Operation(
    operation_id="recover_webhook",
    method="POST",
    path="/v1/webhooks/{webhook_id}/recover",
    tag=Tag.WEBHOOKS,
    summary="Send what failed again",
    description=(
        "FAILED deliveries of events since a moment, also of those that came while the webhook was "
        "disabled: the oldest 10,000. Call again while there are as many."
    ),
    scope=Scope.WEBHOOKS_WRITE,
    parameters=(_ID,),
    request=WebhookRecovery,
    request_examples={
        "recovery": {"summary": "Since a deployment", "value": {"since": "2026-11-01T12:00:00Z"}}
    },
    responses=(
        Response(
            202, "They are sent again", model=WebhookRecoveryResult, example={"deliveries": 3}
        ),
    ),
    problems=(ProblemCode.WEBHOOK_NOT_FOUND, *BODY_PROBLEMS),
)

WEBHOOK_OPERATIONS: Final = (
    _CREATE,
    _LIST,
    _READ,
    _CHANGE,
    _DELETE,
    _ROTATE,
    _LIST_DELIVERIES,
    _RESEND,
    _RECOVER,
)
