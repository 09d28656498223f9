"""Parameters that several operations share."""

from enum import StrEnum
from typing import Any, Final, Literal

from contracts.money import CODE_PATTERN
from contracts.operations.shapes import WAIT_S_MAX, JsonSchema, Parameter
from contracts.representations.pages import CURSOR_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX
from contracts.requests.validators import IDEMPOTENCY_KEY_MAX
from ledger.words import TransactionStatus, TransactionType

UUID_SCHEMA: Final = {"type": "string", "format": "uuid"}
MOMENT_SCHEMA: Final = {"type": "string", "format": "date-time"}
CURRENCY_SCHEMA: Final = {"type": "string", "pattern": CODE_PATTERN}

REQUEST_ID: Final = Parameter(
    name="X-Request-Id",
    place="header",
    description=(
        "Your own name for this request: 1 to 128 letters, digits and `-_.:`. The answer and "
        "the logs carry it. Without a usable one it is the trace id, that of your `traceparent` if "
        "you send one."
    ),
    schema={"type": "string"},
    example="checkout-7f3a",
)
IDEMPOTENCY_KEY: Final = Parameter(
    name="Idempotency-Key",
    place="header",
    description=(
        f"1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters that name this request, per "
        "submitter and for ever. The same key with the same content is the same request, however "
        "often it is sent."
    ),
    schema={
        "type": "string",
        "pattern": "^[!-~]+$",
        "minLength": 1,
        "maxLength": IDEMPOTENCY_KEY_MAX,
    },
    example="order-4711-payment",
)
PREFER: Final = Parameter(
    name="Prefer",
    place="header",
    description=(
        f"`wait=N` (RFC 7240): answer when the transaction reached its final state, after N "
        f"seconds at the latest. N is 0 to {WAIT_S_MAX}; more counts as {WAIT_S_MAX}."
    ),
    schema={"type": "string"},
    example="wait=5",
)
IF_NONE_MATCH: Final = Parameter(
    name="If-None-Match",
    place="header",
    description=(
        "The ETag of the copy that you hold, or several; 304 when one of them is current. `*` is "
        "any."
    ),
    schema={"type": "string"},
)
IF_MATCH: Final = Parameter(
    name="If-Match",
    place="header",
    description=(
        "The ETag of the copy on which your change rests, or several: without one of them the "
        "call is refused (`precondition_failed`) and changes nothing. `*` is any. Weak ones "
        "(`W/…`) never match."
    ),
    schema={"type": "string"},
)
CURSOR: Final = Parameter(
    name="cursor",
    place="query",
    description=(
        "The `next_cursor` of the page before, with the same filters. A page may be shorter than "
        "`limit`, even empty, and still have a `next_cursor`: follow it until it is null."
    ),
    schema={"type": "string", "maxLength": CURSOR_MAX},
)
LIMIT: Final = Parameter(
    name="limit",
    place="query",
    description="The most items of the page.",
    schema={
        "type": "integer",
        "minimum": 1,
        "maximum": PAGE_LIMIT_MAX,
        "default": PAGE_LIMIT_DEFAULT,
    },
)
FROM: Final = Parameter(
    name="from",
    place="query",
    description="Created at this moment or later (RFC 3339).",
    schema=MOMENT_SCHEMA,
    example="2026-11-01T00:00:00Z",
)
TO: Final = Parameter(
    name="to",
    place="query",
    description="Created before this moment (RFC 3339).",
    schema=MOMENT_SCHEMA,
    example="2026-12-01T00:00:00Z",
)


def query(name: str, description: str, schema: JsonSchema, example: str | None = None) -> Parameter:
    """Return an optional query parameter."""
    return Parameter(
        name=name, place="query", description=description, schema=schema, example=example
    )


def path_id(
    name: Literal[
        "wallet_id",
        "transaction_id",
        "dead_letter_id",
        "review_id",
        "user_id",
        "session_id",
        "notification_id",
        "webhook_id",
        "delivery_id",
    ],
) -> Parameter:
    """Return the id in a path."""
    return Parameter(
        name=name,
        place="path",
        description="Its id.",
        schema=UUID_SCHEMA,
        is_required=True,
    )


def enum_schema(words: type[StrEnum]) -> dict[str, Any]:
    """Return the schema of one word of an enum."""
    return {"type": "string", "enum": [word.value for word in words]}


INCLUDE_DELETED: Final = query(
    "include_deleted",
    "`true`: deleted ones too.",
    {"type": "boolean", "default": False},
)
TRANSACTION_ID: Final = query("transaction_id", "Only what is about this transaction.", UUID_SCHEMA)
TYPE: Final = query("type", "Only this type.", enum_schema(TransactionType))
STATUS: Final = query("status", "Only those in this status.", enum_schema(TransactionStatus))
