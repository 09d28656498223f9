"""What every answer says to browsers, and which web pages of others may read one (CORS)."""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from contracts.operations import ResponseHeader
from ingress.calls import names_of

_NOT_STORED: Final = "no-store"
PROTECTION: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # No answer but the API page is one to be shown, and none in a frame.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": _NOT_STORED,
    # Not which library answers, nor its version.
    "Server": "ackledger",
}
"""What an answer says unless it says otherwise itself."""
TAGGED_CACHE_CONTROL: Final = "private, no-cache"
"""Of an answer with an entity tag: its client may keep it, and asks each time whether it holds."""
TAGGED_PROTECTION: Final = {"Cache-Control": TAGGED_CACHE_CONTROL} | {
    name: value for name, value in PROTECTION.items() if name != "Cache-Control"
}

PREFLIGHT_AGE_S: Final = 600
"""How long a browser need not ask again; all of them take so much."""
_METHODS: Final = "GET, POST, PATCH, DELETE"
_REQUEST_HEADERS: Final = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Prefer, "
    "traceparent, X-Request-Id"
)
_SHOWN: Final = ", ".join(ResponseHeader)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def protect(response: web.StreamResponse) -> None:
    """Let an answer say what is in PROTECTION, or, with an entity tag, in TAGGED_PROTECTION."""
    headers = response.headers
    for name, value in (TAGGED_PROTECTION if "ETag" in headers else PROTECTION).items():
        headers.setdefault(name, value)


def cross_origin(origins: Collection[str]) -> Middleware:
    """Return what lets web pages of these origins call; to all others nothing is said.

    Who calls is known by a token that the page has to hold: cookies mean nothing here, so they are
    never allowed.
    """

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _is_preflight(request) and request.headers.get("Origin") in origins:
            response: web.StreamResponse = _preflight(request)
        else:
            response = await handler(request)
        if not response.prepared:
            share(request, response, origins)
        return response

    return answer


def share(request: web.BaseRequest, response: web.StreamResponse, origins: Collection[str]) -> None:
    """Let a page of one of these origins read an answer."""
    origin = request.headers.get("Origin")
    if origin is not None or response.headers.get("Cache-Control") != _NOT_STORED:
        # Where nothing is stored nobody can mistake one answer for the other.
        response.headers["Vary"] = "Origin"
    if origin is not None and origin in origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _SHOWN


def _is_preflight(request: web.Request) -> bool:
    return request.method == "OPTIONS" and _ASKS in request.headers


_ASKS: Final = "Access-Control-Request-Method"


def _preflight(request: web.Request) -> web.Response:
    response = web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _REQUEST_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_AGE_S),
            "X-Request-Id": names_of(None, request.headers.get("X-Request-Id"))[1],
        },
    )
    protect(response)
    return response
