"""The call that follows events."""

from typing import Final

from contracts.operations import parameters
from contracts.operations.shapes import (
    EVENT_STREAM,
    READ_PROBLEMS,
    Operation,
    Parameter,
    Response,
    Tag,
)
from contracts.problems import ProblemCode
from contracts.representations import examples
from contracts.representations.pages import EventPage
from contracts.scopes import EVENTS_SCOPE
from contracts.webhooks import EVENT_TYPES

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
