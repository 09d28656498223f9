"""Endpoints: what every call goes through before its handler and after it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import SystemRandom
from typing import Any, Final

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from contracts.errors import ContractError
from contracts.operations import BODY_BYTES_MAX, Operation
from contracts.problems import PROBLEMS, ProblemCode
from contracts.tracing import trace_id_of, valid_request_id, valid_traceparent
from ingress.access import ApiKeys, Client
from ingress.metrics import RATE_LIMITED, REQUEST_SECONDS, REQUESTS
from ingress.parsing import (
    Query,
    bearer_of,
    check_content_type,
    json_of,
    known_parameters,
)
from ingress.rate_limit import RateLimiter
from runtime.database import UNREACHABLE
from runtime.gathering import GatheringFullError

RETRY_AFTER_S: Final = 1
BODY_TIMEOUT_S: Final = 30.0
"""A megabyte arrives in this time over the slowest line that is worth serving."""
_RANDOM: Final = SystemRandom()

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may go to its handler: who asks, and how it is traced."""

    request: web.Request
    query: Query
    client: Client
    request_id: str
    traceparent: str

    @property
    def own_request_id(self) -> str | None:
        """The request id where it says more than the trace id does."""
        return None if self.request_id == trace_id_of(self.traceparent) else self.request_id

    async def json(self) -> Any:
        """Return the decoded body; raises ContractError."""
        check_content_type(self.request.content_type, self.request.charset)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await self.request.read()
        except TimeoutError:
            raise ContractError(
                ProblemCode.REQUEST_TIMEOUT, f"send the body within {BODY_TIMEOUT_S:g} s"
            ) from None
        return json_of(body)


Handler = Callable[[Call], Awaitable[web.Response]]
PlainHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_NOBODY: Final = Client(name="", scopes=frozenset())


class Gate:
    """Builds the aiohttp handler of an operation: access, limits, problems, metrics."""

    def __init__(self, *, keys: ApiKeys, limiter: RateLimiter) -> None:
        self._keys = keys
        self._limiter = limiter

    def guarded(self, operation: Operation, handler: Handler) -> PlainHandler:
        """Return the handler of a call that needs a scope."""
        known = known_parameters(operation.parameters)
        scope = operation.scope
        if scope is None:
            raise AssertionError(f"{operation.operation_id} has no scope to guard")

        async def respond(request: web.Request) -> web.Response:
            client = await self._keys.client_of(bearer_of(request.headers))
            client.require(scope)
            limits = await self._limited(client)
            traceparent = request["traceparent"]
            query = Query(list(request.query.items()), known)
            call = Call(request, query, client, request["request_id"], traceparent)
            response = await handler(call)
            response.headers.update(limits)
            return response

        return self.observed(operation.operation_id, respond)

    def observed(self, operation_id: str, handler: PlainHandler) -> PlainHandler:
        """Return a handler whose failures are problems and whose answers are counted."""
        seconds = REQUEST_SECONDS.labels(operation_id)

        async def respond(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            try:
                response = await handler(request)
            except Exception as error:  # noqa: BLE001  # every failure has its problem
                response = problem_response(request, error)
            seconds.observe(time.perf_counter() - started)
            REQUESTS.labels(operation_id, response.status).inc()
            return response

        return respond

    async def _limited(self, client: Client) -> Mapping[str, str]:
        allowance = await self._limiter.allow(client.name)
        if allowance is None:
            return {}
        if not allowance.is_allowed:
            RATE_LIMITED.inc()
            raise RateLimitedError(allowance.headers())
        return allowance.headers()


class RateLimitedError(ContractError):
    """The client asks more often than it may."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(ProblemCode.RATE_LIMITED, "ask again after Retry-After")
        self.headers = headers


def name_request(request: web.Request) -> None:
    """Give the request its trace and its id: the client's own where they are sane."""
    traceparent = valid_traceparent(request.headers.get("traceparent")) or (
        f"00-{_RANDOM.getrandbits(128) or 1:032x}-{_RANDOM.getrandbits(64) or 1:016x}-01"
    )
    request["traceparent"] = traceparent
    own = valid_request_id(request.headers.get("X-Request-Id"))
    request["request_id"] = own or trace_id_of(traceparent)


@web.middleware
async def name_and_answer(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Name every request and its answer; a path or method that fits nothing gets a problem."""
    name_request(request)
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = problem_response(request, error)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    response.headers["X-Request-Id"] = request["request_id"]
    return response


def problem_response(request: web.Request, error: Exception) -> web.Response:
    """Return the problem (RFC 9457) that an error is to the client."""
    found = problem_of(error)
    if found.code in {ProblemCode.INTERNAL_ERROR, ProblemCode.DATABASE_UNAVAILABLE}:
        log.error(
            "request_failed",
            request_id=request["request_id"],
            path=request.path,
            error=repr(error),
            exc_info=error if found.code is ProblemCode.INTERNAL_ERROR else None,
        )
    instance = request.rel_url.raw_path
    body = problem_body(found, instance=instance, request_id=request["request_id"])
    return web.Response(
        body=orjson.dumps(body),
        status=body["status"],
        content_type="application/problem+json",
        headers=_problem_headers(found),
    )


def problem_of(error: Exception) -> ContractError:
    """Return an error as one with a code."""
    if isinstance(error, ContractError):
        return error
    if isinstance(error, GatheringFullError):
        return ContractError(ProblemCode.BACKLOG_FULL, "send it again after Retry-After")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return ContractError(
            ProblemCode.BODY_TOO_LARGE, f"a body has at most {BODY_BYTES_MAX} bytes"
        )
    if isinstance(error, web.HTTPMethodNotAllowed):
        return ContractError(
            ProblemCode.METHOD_NOT_ALLOWED, f"allowed: {', '.join(sorted(error.allowed_methods))}"
        )
    if isinstance(error, web.HTTPNotFound):
        return ContractError(ProblemCode.NOT_FOUND, "see /docs for what there is")
    if isinstance(error, (web.RequestPayloadError, ContentEncodingError)):
        return ContractError(ProblemCode.MALFORMED_JSON, "the body is not encoded as it says")
    if isinstance(error, UNREACHABLE):
        return ContractError(
            ProblemCode.DATABASE_UNAVAILABLE, "nothing was lost; send it again after Retry-After"
        )
    return ContractError(ProblemCode.INTERNAL_ERROR, "the request id names it in our logs")


def problem_body(error: ContractError, *, instance: str, request_id: str) -> dict[str, Any]:
    """Return the problem's JSON."""
    kind = PROBLEMS[error.code]
    return {
        "type": f"/docs#problem-{error.code.value.replace('_', '-')}",
        "title": kind.title,
        "status": kind.status,
        "detail": error.detail.encode("utf-8", "replace").decode(),
        "instance": instance,
        "code": error.code.value,
        "request_id": request_id,
        "errors": [{"pointer": one.pointer, "detail": one.detail} for one in error.errors],
    }


def _problem_headers(error: ContractError) -> Mapping[str, str]:
    if isinstance(error, RateLimitedError):
        return error.headers
    status = PROBLEMS[error.code].status
    if status == web.HTTPServiceUnavailable.status_code:
        return {"Retry-After": str(RETRY_AFTER_S)}
    if status == web.HTTPUnauthorized.status_code:
        return {"WWW-Authenticate": 'Bearer realm="ackledger"'}
    return {}


def json_response(
    body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON answer."""
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", headers=headers
    )
