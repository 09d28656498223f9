"""Endpoints: what every call goes through before its handler and after it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson
import structlog
from aiohttp import web
from prometheus_client import Counter

from contracts.errors import ContractError
from contracts.operations import Operation
from contracts.problems import ProblemCode
from contracts.tracing import trace_id_of, valid_request_id, valid_traceparent
from ingress.access import ApiKeys, Client
from ingress.answers import Answer
from ingress.metrics import RATE_LIMITED, REQUEST_SECONDS, REQUESTS
from ingress.parsing import (
    Query,
    check_content_type,
    idempotency_key_of,
    json_of,
    known_parameters,
    single_header,
    token_of,
    wait_s_of,
)
from ingress.problems import RateLimitedError, problem_answer
from ingress.rate_limit import RateLimiter

log = structlog.get_logger()

TRACEPARENT: Final = web.RequestKey("traceparent", str)
REQUEST_ID: Final = web.RequestKey("request_id", str)
BODY_TIMEOUT_S: Final = 30.0
"""A megabyte arrives in this time over the slowest line that is worth serving."""
_TRACE_BITS: Final = 192
"""Of a trace's id and its first span's; that all of one are zero never happens."""
_NAMES: Final = Random()  # noqa: S311  # seeded by the system; names are no secrets


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
        return own_request_id(self.traceparent, self.request_id)

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
        except Exception:
            # What the library makes of a lost connection depends on how the body was framed.
            if self.request.transport is None:
                raise ClientGoneError from None
            raise
        return json_of(body)

    @property
    def idempotency_key(self) -> str | None:
        """The key in the header, as it was sent; raises ContractError for two that differ."""
        return idempotency_key_of(self.request.headers.getall("Idempotency-Key", ()))

    @property
    def wait_s(self) -> int:
        """How long the client prefers to wait: several lines of Prefer are one list."""
        return wait_s_of(", ".join(self.request.headers.getall("Prefer", ())))


class ClientGoneError(Exception):
    """The client hung up before its request was whole; nobody is there for an answer."""


CLIENT_GONE_STATUS: Final = 499
"""In the metric alone, for nobody hears it: the number that proxies log for it."""


class Measure:
    """Counts the answers of one operation and how long they took."""

    def __init__(self, operation_id: str) -> None:
        self._operation_id = operation_id
        self._seconds = REQUEST_SECONDS.labels(operation_id)
        # A label's child is looked up under a lock: once is enough.
        self._by_status: dict[int, Counter] = {}

    def count(self, status: int, *, started: float) -> None:
        """Count an answer to a request whose head was there at `started` (perf_counter)."""
        self._seconds.observe(time.perf_counter() - started)
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = REQUESTS.labels(self._operation_id, status)
        counter.inc()


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
            authorization = single_header(
                "Authorization", request.headers.getall("Authorization", ())
            )
            client = await self._keys.client_of(token_of(authorization or ""))
            client.require(scope)
            limits = await self._limited(client)
            traceparent = request[TRACEPARENT]
            query = Query(list(request.query.items()), known)
            call = Call(request, query, client, request[REQUEST_ID], traceparent)
            response = await handler(call)
            response.headers.update(limits)
            return response

        return self.observed(operation.operation_id, respond)

    def observed(self, operation_id: str, handler: PlainHandler) -> PlainHandler:
        """Return a handler whose failures are problems and whose answers are counted."""
        measure = Measure(operation_id)

        async def respond(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            try:
                response = await handler(request)
            except ClientGoneError:
                log.debug("client_gone", request_id=request[REQUEST_ID])
                response = web.Response(status=CLIENT_GONE_STATUS, reason="Client Closed Request")
            except Exception as error:  # noqa: BLE001  # every failure has its problem
                response = problem_response(request, error)
            measure.count(response.status, started=started)
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


def name_request(request: web.Request) -> None:
    """Give the request its trace and its id: the client's own where they are sane."""
    headers = request.headers
    request[TRACEPARENT], request[REQUEST_ID] = names_of(
        headers.get("traceparent"), headers.get("X-Request-Id")
    )


def names_of(traceparent: str | None, request_id: str | None) -> tuple[str, str]:
    """Return a request's trace and its id: what the client sent where that is sane."""
    trace = valid_traceparent(traceparent) if traceparent else None
    if trace is None:
        bits = f"{_NAMES.getrandbits(_TRACE_BITS):0{_TRACE_BITS // 4}x}"
        trace = f"00-{bits[:32]}-{bits[32:]}-01"
    return trace, valid_request_id(request_id) or trace_id_of(trace)


def own_request_id(traceparent: str, request_id: str) -> str | None:
    """Return the request id where it says more than the trace id does."""
    return None if request_id == trace_id_of(traceparent) else request_id


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
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    return response


def problem_response(request: web.BaseRequest, error: Exception) -> web.Response:
    """Return the problem (RFC 9457) that an error is to the client."""
    path, request_id = request.rel_url.raw_path, request[REQUEST_ID]
    return response_of(problem_answer(error, path=path, request_id=request_id))


def response_of(answer: Answer) -> web.Response:
    """Return an answer as aiohttp sends it."""
    return web.Response(
        body=answer.body,
        status=answer.status,
        content_type=answer.content_type,
        headers=answer.headers,
    )


def json_response(
    body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON answer."""
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", headers=headers
    )
