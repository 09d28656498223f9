"""Endpoints: what every call goes through before its handler and after it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from contracts.operations import Operation
from contracts.problems import ContractError, ProblemCode
from contracts.rate_limits import LimitClass
from contracts.representations.people import AGENT_MAX
from ingress.authentication import Authenticator, Client, token_of
from ingress.calls import Answer, Measure, Names, Services, StepCall, json_of, wait_s_of
from ingress.http.addresses import ClientAddresses
from ingress.http.problems import problem_answer
from ingress.http.shell import protect
from ingress.http.traces import RequestTraces
from ingress.limits.limiter import NO_COSTS, RateLimiter
from ingress.parsing import (
    Query,
    TagCondition,
    check_content_type,
    idempotency_key_of,
    known_parameters,
    single_header,
    tag_condition_of,
)
from runtime.postgres.audit import Trail

log = structlog.get_logger()

NAMES: Final = web.RequestKey("names", tuple[str, str])
BEGAN: Final = web.RequestKey("began", float)
"""When an answer without an end began to be sent (perf_counter)."""
BODY_TIMEOUT_S: Final = 30.0
"""A megabyte arrives in this time over the slowest line that is worth serving."""


class RequestCount:
    """Counts one request against the limits of its client, once."""

    def __init__(self, limiter: RateLimiter, client: Client) -> None:
        self._limiter = limiter
        self._client = client
        self.is_taken = False
        """Whether it is counted, or will be by what serves it."""
        self.headers: Mapping[str, str] = {}
        """What the answer says of the limits."""

    async def take(self, costs: Mapping[LimitClass, int] = NO_COSTS, *, requests: int = 1) -> None:
        """Count it, unless it is; raises ContractError where a limit is reached.

        `costs`: how many transactions of each class it asks for; `requests`: as how many requests
        of a person's it counts.
        """
        if not self.is_taken:
            self.is_taken = True
            self.headers = await self._limiter.count(self._client, costs, requests=requests)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may go to its handler: who asks, and how it is traced."""

    request: web.Request
    query: Query
    client: Client
    names: Names
    count: RequestCount
    addresses: ClientAddresses

    @property
    def request_id(self) -> str:
        """What the answer, the logs and the audit log name the request by."""
        return self.names[1]

    @property
    def address(self) -> str:
        """Where the request came from, as far as it can be believed."""
        return self.addresses.of(self.request)

    @property
    def agent(self) -> str | None:
        """What the client's program calls itself, as it can be stored."""
        agent = self.request.headers.get("User-Agent")
        return agent and agent.encode("utf-8", "replace").decode()[:AGENT_MAX]

    @property
    def trail(self) -> Trail:
        """Who acts, as the audit log names it; behind a proxy the address is the proxy's.

        A person's address is not in it: what is there can never be erased. Their login log has it.
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


async def answer_of(call: Call, services: Services, make: Callable[..., StepCall]) -> Answer:
    """Make a call for a client that was admitted; return its answer, or raise what it met."""
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def finish(outcome: Answer | Exception) -> None:
        if answered.done():
            return  # Nobody waits any more.
        if isinstance(outcome, Answer):
            answered.set_result(outcome)
        else:
            answered.set_exception(outcome)

    # It counts by itself, once it knows what kind of transaction it is asked for.
    call.count.is_taken = True
    made = make(services, names=call.names, wait_s=call.wait_s, finish=finish)
    made.begin_for(call.client)
    return await answered


class ClientGoneError(Exception):
    """The client hung up before its request was whole; nobody is there for an answer."""


CLIENT_GONE_STATUS: Final = 499
"""In the metric alone, for nobody hears it: the number that proxies log for it."""


Handler = Callable[[Call], Awaitable[web.StreamResponse]]
PlainHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NOBODY: Final = Client(name="", scopes=frozenset())
COUNTED_BY_HANDLER: Final = frozenset(
    {
        "submit_transaction",
        "submit_transaction_batch",
        "preview_transactions",
        "reverse_transaction",
        "read_transaction",
    }
)
"""Operations that count once they know which transactions they are asked for."""
_LOGIN: Final = "log_in"


class Gate:
    """Builds the aiohttp handler of an operation: access, limits, problems, metrics."""

    def __init__(
        self,
        callers: Authenticator,
        limiter: RateLimiter,
        *,
        visitors: RateLimiter,
        addresses: ClientAddresses,
        traces: RequestTraces | None = None,
    ) -> None:
        """`limiter` counts the requests of callers, `visitors` those of nobody."""
        self._callers = callers
        self._limiter = limiter
        self._visitors = visitors
        self._addresses = addresses
        self.traces = traces or RequestTraces()
        """Names the requests that come here."""

    def guarded(self, operation: Operation, handler: Handler) -> PlainHandler:
        """Return the handler of a call that needs a scope."""
        known = known_parameters(operation.parameters)
        rights = operation.rights
        if not rights:
            raise AssertionError(f"{operation.operation_id} has no scope to guard")

        async def respond(request: web.Request) -> web.StreamResponse:
            authorization = single_header(
                "Authorization", request.headers.getall("Authorization", ())
            )
            client = await self._callers.client_of(token_of(authorization or ""))
            client.require_one_of(rights)
            count = RequestCount(self._limiter, client)
            try:
                if operation.operation_id not in COUNTED_BY_HANDLER:
                    await count.take()
                query = Query(list(request.query.items()), known)
                response = await handler(
                    Call(request, query, client, request[NAMES], count, self._addresses)
                )
            except ContractError:
                # Whoever sends what is refused before it is counted sends requests all the same.
                await count.take()
                raise
            if not response.prepared:
                response.headers.update(count.headers)
            return response

        return self.observed(operation.operation_id, respond)

    def open(self, operation: Operation, handler: Handler) -> PlainHandler:
        """Return the handler of a call that anybody may make, limited by its address.

        Whoever calls is nobody.
        """
        known = known_parameters(operation.parameters)
        is_login = operation.operation_id == _LOGIN

        async def respond(request: web.Request) -> web.StreamResponse:
            address = self._addresses.of(request)
            count = RequestCount(self._limiter, NOBODY)
            count.is_taken = True
            count.headers = await self._visitors.count_address(address, is_login=is_login)
            query = Query(list(request.query.items()), known)
            response = await handler(
                Call(request, query, NOBODY, request[NAMES], count, self._addresses)
            )
            response.headers.update(count.headers)
            return response

        return self.observed(operation.operation_id, respond)

    def observed(self, operation_id: str, handler: PlainHandler) -> PlainHandler:
        """Return a handler whose failures are problems and whose answers are counted."""
        measure, traces = Measure(operation_id), self.traces

        async def respond(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            try:
                response = await handler(request)
            except ClientGoneError:
                log.debug("client_gone", request_id=request[NAMES][1])
                response = web.Response(status=CLIENT_GONE_STATUS, reason="Client Closed Request")
            except Exception as error:  # noqa: BLE001  # every failure has its problem
                response = problem_response(request, error)
            ended = request.get(BEGAN)
            measure.count(response.status, started=started, ended=ended)
            if traces.is_on:
                traces.answered(
                    operation_id,
                    request[NAMES],
                    received=request.headers.get("traceparent"),
                    status=response.status,
                    started=started,
                    ended=ended,
                )
            return response

        return respond


def naming(traces: RequestTraces) -> Middleware:
    """Return what names every request and its answer.

    A path or method that fits nothing gets a problem.
    """

    @web.middleware
    async def name_and_answer(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        headers = request.headers
        request[NAMES] = traces.names_of(headers.get("traceparent"), headers.get("X-Request-Id"))
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = problem_response(request, error)
            if isinstance(error, web.HTTPMethodNotAllowed):
                response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        if not response.prepared:
            _sign(request, response)
        return response

    return name_and_answer


async def sign_stream(request: web.Request, response: web.StreamResponse) -> None:
    """Name an answer without an end before its head is sent; all others are named at their end."""
    if not isinstance(response, web.Response):
        request[BEGAN] = time.perf_counter()
        _sign(request, response)


def _sign(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Request-Id"] = request[NAMES][1]
    protect(response)


def problem_response(request: web.BaseRequest, error: Exception) -> web.Response:
    """Return the problem (RFC 9457) that an error is to the client."""
    path = request.rel_url.raw_path
    return response_of(problem_answer(error, path=path, names=request[NAMES]))


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


def page_response(items: Sequence[object], next_cursor: str | None) -> web.Response:
    """Return a page of a list, and what the next one is asked for with."""
    return json_response({"items": items, "next_cursor": next_cursor})
