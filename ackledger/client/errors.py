"""How a call can fail. A transaction that the business refuses is no error: it is FAILED.

No message and no attribute holds a key, a password or a header of a request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from contracts.problems import FieldError, ProblemCode
from contracts.representations.transaction import Transaction

_DETAIL_MAX: Final = 300
"""Characters that are kept of an answer that is no problem, such as a proxy's page."""


class AckledgerError(Exception):
    """Whatever this client raises on purpose."""


class UnreachableError(AckledgerError):
    """The service or the broker did not answer within the time that was given for all tries.

    Whether a submission was accepted is not known: send the same request again, under its key.
    """


class UnexpectedAnswerError(AckledgerError):
    """The answer is not one of this API: something else answers at the address."""


class BrokerRefusedError(AckledgerError):
    """The broker does not let this user in or publish, whatever is sent."""


class UnroutableError(BrokerRefusedError):
    """The broker returned the message: no queue is bound to the exchange."""


class WebhookVerificationError(AckledgerError):
    """A delivery is not signed with a secret of yours, or not any more, or not yet."""


class WaitTimeoutError(AckledgerError):
    """The transaction was not final in time; `transaction` is how it was last seen."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction)
        self.transaction = transaction

    def __str__(self) -> str:
        """Name the transaction and its status."""
        return f"{self.transaction.id} is still {self.transaction.status}"


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as the service tells it (RFC 9457). `code` never changes: switch on it."""

    status: int
    code: str
    title: str = ""
    detail: str = ""
    request_id: str | None = None
    retry_after_s: float = 0.0
    errors: tuple[FieldError, ...] = ()


class ProblemError(AckledgerError):
    """The service answered with a problem; the subclass follows from its status and code."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """The stable name of the problem, such as `wallet_not_found`."""
        return self.problem.code

    @property
    def detail(self) -> str:
        """What is wrong, in a sentence."""
        return self.problem.detail

    @property
    def request_id(self) -> str | None:
        """The name of the request, which the service's logs carry."""
        return self.problem.request_id

    @property
    def retry_after_s(self) -> float:
        """How long the service asked to wait, after all tries; 0 where it did not."""
        return self.problem.retry_after_s

    @property
    def errors(self) -> tuple[FieldError, ...]:
        """The invalid fields of the body: `pointer` and `detail` of each."""
        return self.problem.errors

    def __str__(self) -> str:
        """Return code and detail, and the request's name for whoever asks the operators."""
        named = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.code}: {self.detail or self.problem.title}{named}"


class InvalidRequestError(ProblemError):
    """The request is not valid (400, 413, 415, 422); the same again would be refused again."""


class IdempotencyKeyReusedError(InvalidRequestError):
    """The key was already used with different content."""


class UnauthenticatedError(ProblemError):
    """No valid API key or access token (401)."""


class ForbiddenError(ProblemError):
    """The key has not the scope that the call needs, or not on this resource (403)."""


class NotFoundError(ProblemError):
    """There is no such thing, or it is not yours (404)."""


class ConflictError(ProblemError):
    """The state of the resource does not allow it (409, 412)."""


class RateLimitedError(ProblemError):
    """Too many requests (429), after all tries."""


class UnavailableError(ProblemError):
    """The service cannot do it now (5xx), after all tries."""


def problem_error(
    status: int, body: Any, *, request_id: str | None = None, retry_after_s: float = 0.0
) -> ProblemError:
    """Return the error for an answer of 300 and above, whoever on the way has written it."""
    told: Mapping[str, Any] = body if isinstance(body, dict) else {}
    problem = Problem(
        status=status,
        code=str(told.get("code") or f"http_{status}"),
        title=str(told.get("title") or ""),
        detail=str(told.get("detail") or ("" if told else body or ""))[:_DETAIL_MAX],
        request_id=told.get("request_id") or request_id,
        retry_after_s=retry_after_s,
        errors=tuple(
            FieldError(str(one.get("pointer", "")), str(one.get("detail", "")))
            for one in told.get("errors") or ()
        ),
    )
    return _kind_of(problem)(problem)


_KINDS: Final[Mapping[int, type[ProblemError]]] = {
    HTTPStatus.UNAUTHORIZED: UnauthenticatedError,
    HTTPStatus.FORBIDDEN: ForbiddenError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.PRECONDITION_FAILED: ConflictError,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimitedError,
}


def _kind_of(problem: Problem) -> type[ProblemError]:
    if problem.code == ProblemCode.IDEMPOTENCY_KEY_REUSED:
        return IdempotencyKeyReusedError
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError
    return _KINDS.get(problem.status, InvalidRequestError)
