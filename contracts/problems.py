"""Every problem that a client can meet over HTTP: code, status and title (RFC 9457).

`ContractError` is how bad input is told, once, at the edge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from pydantic import BaseModel, Field


class ProblemCode(StrEnum):
    """The stable names that clients switch on."""

    MALFORMED_REQUEST = "malformed_request"
    MALFORMED_JSON = "malformed_json"
    VALIDATION_FAILED = "validation_failed"
    INVALID_PARAMETER = "invalid_parameter"
    INVALID_CURSOR = "invalid_cursor"
    IDEMPOTENCY_KEY_MISSING = "idempotency_key_missing"
    IDEMPOTENCY_KEY_INVALID = "idempotency_key_invalid"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    UNAUTHENTICATED = "unauthenticated"
    INVALID_CREDENTIALS = "invalid_credentials"
    TOKEN_INVALID = "token_invalid"  # noqa: S105  # a code
    PASSWORD_TOO_WEAK = "password_too_weak"  # noqa: S105  # a code
    INSUFFICIENT_SCOPE = "insufficient_scope"
    NOT_FOUND = "not_found"
    WALLET_NOT_FOUND = "wallet_not_found"
    TRANSACTION_NOT_FOUND = "transaction_not_found"
    DEAD_LETTER_NOT_FOUND = "dead_letter_not_found"
    DEAD_LETTER_ENDED = "dead_letter_ended"
    DEAD_LETTER_REFUSED = "dead_letter_refused"
    REVIEW_NOT_FOUND = "review_not_found"
    REVIEW_DECIDED = "review_decided"
    SEAL_NOT_FOUND = "seal_not_found"
    USER_NOT_FOUND = "user_not_found"
    SESSION_NOT_FOUND = "session_not_found"
    NOTIFICATION_NOT_FOUND = "notification_not_found"
    WEBHOOK_NOT_FOUND = "webhook_not_found"
    DELIVERY_NOT_FOUND = "delivery_not_found"
    WEBHOOK_LIMIT_REACHED = "webhook_limit_reached"
    USER_NOT_CHANGEABLE = "user_not_changeable"
    WALLET_LIMIT_REACHED = "wallet_limit_reached"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_CANCELLABLE = "not_cancellable"
    WALLET_NOT_EMPTY = "wallet_not_empty"
    WALLET_CLOSED = "wallet_closed"
    OVERDRAFT_IN_USE = "overdraft_in_use"
    PRECONDITION_FAILED = "precondition_failed"
    NOT_PERMITTED = "not_permitted"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    REQUEST_TIMEOUT = "request_timeout"
    RATE_LIMITED = "rate_limited"
    LIMITS_UNAVAILABLE = "limits_unavailable"
    BACKLOG_FULL = "backlog_full"
    EVENTS_UNAVAILABLE = "events_unavailable"
    SIGN_IN_BUSY = "sign_in_busy"
    SIGN_IN_UNAVAILABLE = "sign_in_unavailable"
    DATABASE_UNAVAILABLE = "database_unavailable"
    INTERNAL_ERROR = "internal_error"


class ProblemKind(NamedTuple):
    """What a code always says: the HTTP status and a title that never changes."""

    status: int
    title: str


PROBLEMS: Final[dict[ProblemCode, ProblemKind]] = {
    ProblemCode.MALFORMED_REQUEST: ProblemKind(400, "The request is not valid HTTP"),
    ProblemCode.MALFORMED_JSON: ProblemKind(400, "The body is not valid JSON"),
    ProblemCode.VALIDATION_FAILED: ProblemKind(422, "The body does not fit the contract"),
    ProblemCode.INVALID_PARAMETER: ProblemKind(400, "A parameter or header is not valid"),
    ProblemCode.INVALID_CURSOR: ProblemKind(400, "The cursor was not made by this list"),
    ProblemCode.IDEMPOTENCY_KEY_MISSING: ProblemKind(400, "The idempotency key is missing"),
    ProblemCode.IDEMPOTENCY_KEY_INVALID: ProblemKind(400, "The idempotency key is not valid"),
    ProblemCode.IDEMPOTENCY_KEY_REUSED: ProblemKind(
        422, "The idempotency key was used with other content"
    ),
    ProblemCode.UNAUTHENTICATED: ProblemKind(401, "No valid API key or access token"),
    ProblemCode.INVALID_CREDENTIALS: ProblemKind(401, "The address or the password is wrong"),
    ProblemCode.TOKEN_INVALID: ProblemKind(401, "The token is not valid, or not any more"),
    ProblemCode.PASSWORD_TOO_WEAK: ProblemKind(422, "The password is too weak"),
    ProblemCode.INSUFFICIENT_SCOPE: ProblemKind(403, "A scope is missing"),
    ProblemCode.NOT_FOUND: ProblemKind(404, "No such resource"),
    ProblemCode.WALLET_NOT_FOUND: ProblemKind(404, "No such wallet"),
    ProblemCode.TRANSACTION_NOT_FOUND: ProblemKind(404, "No such transaction"),
    ProblemCode.DEAD_LETTER_NOT_FOUND: ProblemKind(404, "No such dead letter"),
    ProblemCode.DEAD_LETTER_ENDED: ProblemKind(409, "The dead letter was ended before"),
    ProblemCode.DEAD_LETTER_REFUSED: ProblemKind(
        409, "The dead letter cannot be replayed as it is"
    ),
    ProblemCode.REVIEW_NOT_FOUND: ProblemKind(404, "No such review"),
    ProblemCode.REVIEW_DECIDED: ProblemKind(409, "The review was decided before"),
    ProblemCode.SEAL_NOT_FOUND: ProblemKind(404, "No such seal"),
    ProblemCode.USER_NOT_FOUND: ProblemKind(404, "No such user"),
    ProblemCode.SESSION_NOT_FOUND: ProblemKind(404, "No such session"),
    ProblemCode.NOTIFICATION_NOT_FOUND: ProblemKind(404, "No such notification"),
    ProblemCode.WEBHOOK_NOT_FOUND: ProblemKind(404, "No such webhook"),
    ProblemCode.DELIVERY_NOT_FOUND: ProblemKind(404, "No such delivery"),
    ProblemCode.WEBHOOK_LIMIT_REACHED: ProblemKind(
        409, "The caller has as many webhooks as allowed"
    ),
    ProblemCode.USER_NOT_CHANGEABLE: ProblemKind(409, "The user cannot be changed in this way"),
    ProblemCode.WALLET_LIMIT_REACHED: ProblemKind(409, "The owner has as many wallets as allowed"),
    ProblemCode.METHOD_NOT_ALLOWED: ProblemKind(405, "The resource has no such method"),
    ProblemCode.NOT_CANCELLABLE: ProblemKind(409, "The transaction is not SCHEDULED any more"),
    ProblemCode.WALLET_NOT_EMPTY: ProblemKind(409, "The wallet still holds money"),
    ProblemCode.WALLET_CLOSED: ProblemKind(409, "The wallet is closed"),
    ProblemCode.OVERDRAFT_IN_USE: ProblemKind(409, "The overdraft is in use"),
    ProblemCode.PRECONDITION_FAILED: ProblemKind(412, "The resource has another version"),
    ProblemCode.NOT_PERMITTED: ProblemKind(403, "Not permitted on this resource"),
    ProblemCode.BODY_TOO_LARGE: ProblemKind(413, "The body is too large"),
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: ProblemKind(415, "The body must be application/json"),
    ProblemCode.REQUEST_TIMEOUT: ProblemKind(408, "The request did not arrive in time"),
    ProblemCode.RATE_LIMITED: ProblemKind(429, "Too many requests"),
    ProblemCode.LIMITS_UNAVAILABLE: ProblemKind(503, "Attempts cannot be counted now"),
    ProblemCode.BACKLOG_FULL: ProblemKind(503, "Too much work is waiting"),
    ProblemCode.EVENTS_UNAVAILABLE: ProblemKind(503, "Events cannot be followed now"),
    ProblemCode.SIGN_IN_BUSY: ProblemKind(503, "Too many people are signing in"),
    ProblemCode.SIGN_IN_UNAVAILABLE: ProblemKind(503, "People cannot sign in here"),
    ProblemCode.DATABASE_UNAVAILABLE: ProblemKind(503, "The database cannot be reached"),
    ProblemCode.INTERNAL_ERROR: ProblemKind(500, "Something went wrong on our side"),
}


class InvalidField(BaseModel):
    """One invalid place of a body."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the body")
    detail: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it, with a stable code."""

    type: str = Field(description="A reference that names the kind of problem")
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path of the request")
    code: ProblemCode
    request_id: str
    trace_id: str = Field(description="The trace id (W3C Trace Context): 32 hexadecimals")
    errors: list[InvalidField] = Field(default=[], description="The invalid fields, if any")


ERRORS_MAX: Final = 20
"""Invalid places that one problem names: enough to mend a body, and the answer stays small."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One invalid place of a body: a JSON pointer (RFC 6901) and what is wrong there."""

    pointer: str
    detail: str


class ContractError(Exception):
    """Input that breaks the contract; `code` says how, `errors` say where."""

    def __init__(self, code: ProblemCode, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers: Mapping[str, str] = {}
        """What the answer says beside its body, where that is more than its status asks for."""

    @classmethod
    def invalid_fields(
        cls, errors: Sequence[FieldError], *, found: int | None = None
    ) -> "ContractError":
        """Return the error for a body whose form is right and whose fields are not.

        It names ERRORS_MAX of them, and says how many there are: `found`, where not all of them
        were written out.
        """
        first, count = errors[0], found or len(errors)
        rest = f" (and {count - 1} more)" if count > 1 else ""
        if count > ERRORS_MAX:
            rest = f" (and {count - 1} more, of which errors has the first {ERRORS_MAX - 1})"
        place = f"{first.pointer}: " if first.pointer else ""
        detail = f"{place}{first.detail}{rest}"
        return cls(ProblemCode.VALIDATION_FAILED, detail, errors[:ERRORS_MAX])
