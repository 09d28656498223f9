"""The web application: routes, what every page goes through, and how pages are written."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from console.api import Api, ApiError, passed_on
from console.figures import Figures
from console.pages import accounts, dead_letters, operations, transactions, wallets
from console.pages.view import Pages, View
from console.session import Session, Sessions

_HERE: Final = Path(__file__).parent
_STATIC: Final = "/static/"
_NOT_LOGGED_IN: Final = 401
_NOT_FOUND: Final = 404
FORM_OCTETS_MAX: Final = 64 * 1024
PROTECTION: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
        "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Server": "ackledger",
}
HTTPS_ALONE: Final = {"Strict-Transport-Security": "max-age=31536000"}
_OPEN: Final = frozenset({"/login", "/register", "/confirm", "/forgot", "/reset", "/healthz"})

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Signal = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


def build_application(
    api: Api, sessions: Sessions, figures: Figures, *, trace_url: str | None = None
) -> web.Application:
    """Return the application that serves every page; `trace_url`: where one trace is looked at."""
    pages = Pages(
        api,
        sessions,
        figures,
        Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        ),
        trace_url=trace_url,
    )
    app = web.Application(client_max_size=FORM_OCTETS_MAX, middlewares=[_guarded(pages, sessions)])
    app.on_response_prepare.append(_signing(sessions))
    app.on_shutdown.append(pages.streams.end)
    for part in (accounts, wallets, transactions, operations, dead_letters):
        for method, path, page in part.ROUTES:
            app.router.add_route(method, path, pages.handler(page))
    app.router.add_get("/healthz", _read_liveness)
    app.router.add_static("/static", _HERE / "static")
    return app


async def _read_liveness(_: web.Request) -> web.Response:
    return web.json_response({"status": "live"})


def _signing(sessions: Sessions) -> Signal:
    protection = {**PROTECTION, **(HTTPS_ALONE if sessions.cookies.is_secure else {})}

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        """Let every answer say what browsers may do with it, and keep none that is a person's."""
        response.headers.update(protection)
        is_static = request.path.startswith(_STATIC)
        response.headers["Cache-Control"] = "max-age=3600" if is_static else "no-store"
        if View.RENEWED in request and View.LEFT not in request:
            renewed = request[View.RENEWED]
            carrier = web.Response()
            sessions.cookies.write(carrier, renewed if isinstance(renewed, Session) else None)
            # An answer's own cookies are in its headers by now.
            for cookie in carrier.cookies.values():
                response.headers.add("Set-Cookie", cookie.OutputString())

    return sign


def _guarded(pages: Pages, sessions: Sessions) -> Middleware:
    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what another site sends, and let in who is logged in."""
        is_https = sessions.cookies.is_secure
        if request.method == "POST" and not _is_our_own(request, is_https=is_https):
            return pages.refusal(403, "This was not sent by a page of ours.", request)
        if request.path.startswith(_STATIC):
            return await _answered(request, handler, pages)
        session = sessions.cookies.read(request)
        try:
            fresh = session and await sessions.fresh(session, headers=passed_on(request))
        except ApiError as error:
            # The cookie stays: the session may outlast what is wrong now.
            return pages.refusal(error.answer.status, error.answer.trouble, request)
        request[View.SESSION] = fresh
        if session is not None and fresh is not session:
            request[View.RENEWED] = fresh
        if fresh is None and request.path not in _OPEN:
            return _to_login()
        return await _answered(request, handler, pages)

    return guarded


async def _answered(request: web.Request, handler: Handler, pages: Pages) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        if error.answer.status == _NOT_LOGGED_IN:
            # The session was ended elsewhere.
            return View(request, pages).leave(_to_login())
        return pages.refusal(error.answer.status, error.answer.trouble, request)
    except web.HTTPException as error:
        sentence = "There is no such page." if error.status == _NOT_FOUND else error.reason
        return pages.refusal(error.status, sentence, request)
    except Exception:
        log.exception("page_failed", path=request.path)
        return pages.refusal(500, "Something went wrong here; the log says what.", request)


def _is_our_own(request: web.Request, *, is_https: bool) -> bool:
    """Whether a form was sent by a page of this origin; browsers say so in one way or the other.

    `is_https`: then a page of this host that came without TLS may be anybody's.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    scheme, _, host = request.headers.get("Origin", "").partition("://")
    return host == request.host and scheme in (("https",) if is_https else ("http", "https"))


def _to_login() -> web.Response:
    return web.Response(status=303, headers={"Location": "/login"})
