"""What the documents say in prose."""

from typing import Final

from contracts.json import JSON_DEPTH_MAX, JSON_VALUES_MAX
from contracts.money import ISO_4217_EDITION
from contracts.operations import ResponseHeader, Tag
from contracts.problems import PROBLEMS

SUMMARY: Final = "Money moves between wallets; nothing is lost or doubled."
LICENCE: Final = {"name": "Apache-2.0", "identifier": "Apache-2.0"}

_BOUNDS: Final = (
    f"A body has at most 1 MiB, {JSON_DEPTH_MAX} levels and {JSON_VALUES_MAX:,} values, and no "
    "object has a name twice."
)

_OPENAPI_INTRODUCTION: Final = """\
Ackledger turns submitted transactions into double-entry postings, exactly once. A 202 means that \
the transaction is durable: it will be posted, or refused with a reason, whatever fails in between.

**Authorization.** `Authorization: Bearer <API key>`, or a person's access token, which \
`POST /v1/auth/login` gives. Each call names the scope that it needs; a person's role has scopes.

**Amounts** are decimal strings in major units, exact to the currency's decimals: `"100.50"` USD, \
`"1000"` JPY, `"1.234"` KWD. **Currencies** are those of ISO 4217 as it was published on \
{edition}, and the assets that operators registered, such as loyalty points with 8 decimals: \
`GET /v1/assets`. Of a currency that left ISO 4217 only withdrawals are accepted. \
**Timestamps** are RFC 3339 in UTC with microseconds, **ids** are UUIDs.

**Idempotency.** A key names one request per submitter and for ever. The same key with the same \
content answers with the first request's result; with other content, 422.

**Bounds.** {bounds} A request has to arrive whole in time (`request_timeout`).

**Lists** answer a page and `next_cursor`. A page may be shorter than `limit`, even empty, and \
still have a `next_cursor`: follow it until it is null.

**Versions.** A wallet comes with an `ETag`. `If-None-Match` answers 304 to whoever holds the \
current one; `If-Match` changes or deletes the wallet only as you know it, else \
`precondition_failed`.

**Errors** are problem details (RFC 9457, `application/problem+json`). Switch on `code`, which \
never changes. Every answer carries `X-Request-Id`.

<details><summary>Every code</summary>

| status | code | title |
|---|---|---|
{rows}
</details>
"""

_ASYNCAPI_INTRODUCTION: Final = """\
Upstream systems publish transactions to the exchange `ackledger.transactions`; Ackledger posts \
them exactly once and tells what became of them on `ackledger.events`.

- **The submitter** is the property `user_id`, which the broker validates. A client of the same \
name on the HTTP door is the same submitter, with the same idempotency keys.
- **Order.** The routing key is the id of the wallet that is debited (credited, for a deposit): \
that keeps a wallet's transactions in order.
- **Bounds.** {bounds}
- **Certainty.** Publish persistent and mandatory, with publisher confirms, and publish again \
until confirmed: the idempotency key makes that safe.
- **Refusals.** A valid message that the business refuses becomes a FAILED transaction and an \
event. A message that breaks this contract becomes a dead letter with its reason, is never \
retried and never blocks its neighbours.
"""
ASYNCAPI_INTRODUCTION: Final = _ASYNCAPI_INTRODUCTION.replace("{bounds}", _BOUNDS)

TAGS: Final[dict[Tag, str]] = {
    Tag.WALLETS: "A wallet holds one currency for one owner.",
    Tag.TRANSACTIONS: "Deposits, withdrawals and transfers, each posted once or refused.",
    Tag.ASSETS: "Currencies of ISO 4217, and what operators registered beside them.",
    Tag.SEALS: "The hash chain over what was posted: a later change of it is found.",
    Tag.SIGN_IN: "People register, log in and out; their access tokens are valid for minutes.",
    Tag.USERS: "A person's own account, and everybody's for administrators.",
    Tag.HEALTH: "For orchestrators and load balancers.",
    Tag.DOCUMENTS: "This API, for people and for programs.",
    Tag.DEAD_LETTERS: "Messages that could not be processed, for operators.",
    Tag.AUDIT: "Who did what to which thing, for auditors.",
    Tag.REVIEWS: "Transactions that a rule holds back, for operators to approve or refuse.",
}

HEADERS: Final[dict[ResponseHeader, tuple[str, str, str | int]]] = {
    ResponseHeader.REQUEST_ID: ("The name of this request", "string", "checkout-7f3a"),
    ResponseHeader.LOCATION: (
        "The path of the resource",
        "string",
        "/v1/transactions/019aa3b0-41d2-7e14-8001-9b7f02c4d6e8",
    ),
    ResponseHeader.RETRY_AFTER: ("Seconds after which to ask again", "integer", 1),
    ResponseHeader.IDEMPOTENCY_REPLAYED: ("`true` when the key was used before", "string", "true"),
    ResponseHeader.PREFERENCE_APPLIED: ("The wait that was honoured", "string", "wait=5"),
    ResponseHeader.WWW_AUTHENTICATE: ("How to authorize", "string", "Bearer"),
    ResponseHeader.RATE_LIMIT: (
        "Of each policy: requests left (`r`), and seconds until all are there again (`t`)",
        "string",
        '"authenticated-1m";r=98;t=2, "authenticated-1h";r=1998;t=4',
    ),
    ResponseHeader.RATE_LIMIT_POLICY: (
        "Each policy's requests (`q`) in a window of seconds (`w`)",
        "string",
        '"authenticated-1m";q=100;w=60, "authenticated-1h";q=2000;w=3600',
    ),
    ResponseHeader.RATE_LIMIT_LIMIT: (
        "Requests at once, where a limit is set: of the policy with the fewest left",
        "integer",
        100,
    ),
    ResponseHeader.RATE_LIMIT_REMAINING: ("Requests left of them", "integer", 98),
    ResponseHeader.RATE_LIMIT_RESET: ("Seconds until the next request is allowed", "integer", 0),
    ResponseHeader.ETAG: ("Names the answer's version", "string", '"18-5d41402abc4b2a76"'),
    ResponseHeader.CACHE_CONTROL: ("How long a copy may be used", "string", "no-cache"),
}
"""Header to its description, JSON type and example."""


def openapi_introduction() -> str:
    """Return the page's introduction, with the table of every problem."""
    rows = sorted((kind.status, code.value, kind.title) for code, kind in PROBLEMS.items())
    lines = "".join(f"| {status} | `{code}` | {title} |\n" for status, code, title in rows)
    return (
        _OPENAPI_INTRODUCTION.replace("{edition}", ISO_4217_EDITION)
        .replace("{bounds}", _BOUNDS)
        .replace("{rows}", lines)
    )
