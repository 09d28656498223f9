"""Endpoints: what every call goes through before its handler and after it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from contracts.operations import Operation
from contracts.problems import ContractError, ProblemCode
from contracts.representations.people import AGENT_MAX
from ingress.authentication import Authenticator, Client, token_of
from ingress.calls import Answer, Measure, Names, json_of, names_of, wait_s_of
from ingress.http.problems import RateLimitedError, problem_answer
from ingress.metrics import RATE_LIMITED
from ingress.parsing import (
    Query,
    TagCondition,
    check_content_type,
    idempotency_key_of,
    known_parameters,
    single_header,
    tag_condition_of,
)
from ingress.submit.admission import RateLimiter
from runtime.postgres.audit import Trail

log = structlog.get_logger()

NAMES: Final = web.RequestKey("names", tuple[str, str])
BODY_TIMEOUT_S: Final = 30.0
"""A megabyte arrives in this time over the slowest line that is worth serving."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may go to its handler: who asks, and how it is traced."""

    request: web.Request
    query: Query
    client: Client
    names: Names

    @property
    def request_id(self) -> str:
        """What the answer, the logs and the audit log name the request by."""
        return self.names[1]

    @property
    def address(self) -> str | None:
        """Where the request came from: the other end of its connection."""
        return self.request.remote

    @property
    def agent(self) -> str | None:
        """What the client's program calls itself, as it can be stored."""
        agent = self.request.headers.get("User-Agent")
        return agent and agent.encode("utf-8", "replace").decode()[:AGENT_MAX]

    @property
    def trail(self) -> Trail:
        """Who acts, as the audit log names it; behind a proxy the address is the proxy's.

        A person's address is not in it, since it could never be erased: the log of logins has it.
        """
        is_person = self.client.user_id is not None
        return Trail(self.client.name, None if is_person else self.address, self.request_id)

    async def json(self) -> Any:
        """Return the decoded body; raises ContractError."""
        return json_of(await self.body())

    async def body(self) -> bytes:
        """Return the body, which calls itself JSON; raises ContractError."""
        check_content_type(self.request.content_type, self.request.charset)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self.request.read()
        except TimeoutError:
            raise ContractError(
                ProblemCode.REQUEST_TIMEOUT, f"send the body within {BODY_TIMEOUT_S:g} s"
            ) from None
        except Exception:
            # What the library makes of a lost connection depends on how the body was framed.
            if self.request.transport is None:
                raise ClientGoneError from None
            raise

    @property
    def idempotency_key(self) -> str | None:
        """The key in the header, as it was sent; raises ContractError for two that differ."""
        return idempotency_key_of(self.request.headers.getall("Idempotency-Key", ()))

    @property
    def if_match(self) -> TagCondition | None:
        """On which version of the resource the change rests; raises ContractError."""
        return self._tag_condition("If-Match")

    @property
    def if_none_match(self) -> TagCondition | None:
        """Which versions of the resource the client holds; raises ContractError."""
        return self._tag_condition("If-None-Match")

    @property
    def wait_s(self) -> int:
        """How long the client prefers to wait: several lines of Prefer are one list."""
        return wait_s_of(", ".join(self.request.headers.getall("Prefer", ())))

    def _tag_condition(self, name: str) -> TagCondition | None:
        return tag_condition_of(name, self.request.headers.getall(name, ()))


class ClientGoneError(Exception):
    """The client hung up before its request was whole; nobody is there for an answer."""


CLIENT_GONE_STATUS: Final = 499
"""In the metric alone, for nobody hears it: the number that proxies log for it."""


Handler = Callable[[Call], Awaitable[web.Response]]
PlainHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NOBODY: Final = Client(name="", scopes=frozenset())


class Gate:
    """Builds the aiohttp handler of an operation: access, limits, problems, metrics."""

    def __init__(self, *, callers: Authenticator, limiter: RateLimiter) -> None:
        self._callers = callers
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
            client = await self._callers.client_of(token_of(authorization or ""))
            client.require(scope)
            limits = await self._limited(client)
            query = Query(list(request.query.items()), known)
            response = await handler(Call(request, query, client, request[NAMES]))
            response.headers.update(limits)
            return response

        return self.observed(operation.operation_id, respond)

    def open(self, operation: Operation, handler: Handler) -> PlainHandler:
        """Return the handler of a call that anybody may make; whoever calls is nobody."""
        known = known_parameters(operation.parameters)

        async def respond(request: web.Request) -> web.Response:
            query = Query(list(request.query.items()), known)
            return await handler(Call(request, query, NOBODY, request[NAMES]))

        return self.observed(operation.operation_id, respond)

    def observed(self, operation_id: str, handler: PlainHandler) -> PlainHandler:
        """Return a handler whose failures are problems and whose answers are counted."""
        measure = Measure(operation_id)

        async def respond(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            try:
                response = await handler(request)
            except ClientGoneError:
                log.debug("client_gone", request_id=request[NAMES][1])
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


@web.middleware
async def name_and_answer(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Name every request and its answer; a path or method that fits nothing gets a problem."""
    headers = request.headers
    request[NAMES] = names_of(headers.get("traceparent"), headers.get("X-Request-Id"))
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = problem_response(request, error)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    response.headers["X-Request-Id"] = request[NAMES][1]
    return response


def problem_response(request: web.BaseRequest, error: Exception) -> web.Response:
    """Return the problem (RFC 9457) that an error is to the client."""
    path, request_id = request.rel_url.raw_path, request[NAMES][1]
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
