"""The parts of which an operation is made."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel

from contracts.problems import ProblemCode
from contracts.scopes import Scope

BODY_BYTES_MAX: Final = 1024 * 1024
"""The largest request body: a thousand transactions with descriptions fit."""
WAIT_S_MAX: Final = 30
"""The longest `Prefer: wait`: below the minute after which common proxies give up."""

JSON: Final = "application/json"
HTML: Final = "text/html"
EVENT_STREAM: Final = "text/event-stream"

JsonSchema = Mapping[str, Any]


class Tag(StrEnum):
    """The chapters of the API page, in their order."""

    WALLETS = "Wallets"
    TRANSACTIONS = "Transactions"
    EVENTS = "Events"
    WEBHOOKS = "Webhooks"
    ASSETS = "Assets"
    SEALS = "Seals"
    INTEGRITY = "Integrity"
    SIGN_IN = "Sign-in"
    USERS = "Users"
    HEALTH = "Health"
    DOCUMENTS = "Documents"
    DEAD_LETTERS = "Dead letters"
    REVIEWS = "Reviews"
    AUDIT = "Audit log"


class ResponseHeader(StrEnum):
    """A response header that the documents describe."""

    REQUEST_ID = "X-Request-Id"
    LOCATION = "Location"
    RETRY_AFTER = "Retry-After"
    IDEMPOTENCY_REPLAYED = "Idempotency-Replayed"
    PREFERENCE_APPLIED = "Preference-Applied"
    WWW_AUTHENTICATE = "WWW-Authenticate"
    RATE_LIMIT = "RateLimit"
    RATE_LIMIT_POLICY = "RateLimit-Policy"
    RATE_LIMIT_LIMIT = "RateLimit-Limit"
    RATE_LIMIT_REMAINING = "RateLimit-Remaining"
    RATE_LIMIT_RESET = "RateLimit-Reset"
    ETAG = "ETag"
    CACHE_CONTROL = "Cache-Control"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the path, the query or the headers, with its JSON schema."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    schema: JsonSchema
    is_required: bool = False
    example: str | int | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """One answer that is no problem.

    `X-Request-Id`, and `RateLimit-…` where a scope is needed, are on every one: not repeated here.
    """

    status: int
    description: str
    model: type[BaseModel] | None = None
    headers: tuple[ResponseHeader, ...] = ()
    media_type: str = JSON
    example: Mapping[str, Any] | None = None
    also_as: Mapping[str, str] = field(default_factory=dict)
    """Media types in which a client may have it instead, as text, each with an example."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call: what the server routes, what it checks first, and what the document says of it.

    `operation_id` names the handler; `path` has its variables in braces, as OpenAPI and aiohttp
    both read them. `scope` is what the caller needs, and `also_scope` too where it is given;
    `or_scope` is enough in its place. None asks for no caller at all. `problems` is every code that
    this call can answer with, those of its scope and body included.
    """

    operation_id: str
    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    tag: Tag
    summary: str
    description: str
    scope: Scope | None
    responses: tuple[Response, ...]
    problems: tuple[ProblemCode, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    request: type[BaseModel] | None = None
    request_examples: Mapping[str, Mapping[str, Any]] | None = None
    also_scope: Scope | None = None
    or_scope: Scope | None = None

    @property
    def rights(self) -> tuple[frozenset[Scope], ...]:
        """Sets of scopes of which a caller needs one, whole; empty for a public call."""
        if self.scope is None:
            return ()
        whole = frozenset(one for one in (self.scope, self.also_scope) if one)
        return (whole,) if self.or_scope is None else (whole, frozenset({self.or_scope}))

    def is_open_to(self, scopes: Collection[str]) -> bool:
        """Whether a caller with these scopes (and those that they imply) may call it."""
        return not self.rights or any(one <= frozenset(scopes) for one in self.rights)


READ_PROBLEMS: Final = (
    ProblemCode.INVALID_PARAMETER,
    ProblemCode.UNAUTHENTICATED,
    ProblemCode.INSUFFICIENT_SCOPE,
    ProblemCode.RATE_LIMITED,
    ProblemCode.INTERNAL_ERROR,
    ProblemCode.DATABASE_UNAVAILABLE,
    ProblemCode.BACKLOG_FULL,
)
"""What every call with a scope can meet: an unknown query parameter is refused everywhere."""

LIST_PROBLEMS: Final = (ProblemCode.INVALID_CURSOR, *READ_PROBLEMS)

BODY_PROBLEMS: Final = (
    ProblemCode.MALFORMED_JSON,
    ProblemCode.VALIDATION_FAILED,
    ProblemCode.BODY_TOO_LARGE,
    ProblemCode.REQUEST_TIMEOUT,
    ProblemCode.UNSUPPORTED_MEDIA_TYPE,
    *READ_PROBLEMS,
)
"""What every call with a scope and a body can meet."""

OPEN_BODY_PROBLEMS: Final = tuple(
    code
    for code in BODY_PROBLEMS
    if code not in {ProblemCode.UNAUTHENTICATED, ProblemCode.INSUFFICIENT_SCOPE}
)
"""What every call with a body can meet that asks for no key."""

IDEMPOTENCY_PROBLEMS: Final = (
    ProblemCode.IDEMPOTENCY_KEY_MISSING,
    ProblemCode.IDEMPOTENCY_KEY_INVALID,
    ProblemCode.IDEMPOTENCY_KEY_REUSED,
)

ROUTING_PROBLEMS: Final = (
    ProblemCode.MALFORMED_REQUEST,
    ProblemCode.NOT_FOUND,
    ProblemCode.METHOD_NOT_ALLOWED,
)
"""What a request meets that is no HTTP or fits no operation; so no operation lists them."""
