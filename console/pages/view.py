"""What a page works with: the request's person, the API, and a template."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web
from jinja2 import Environment

from console.api import Answer, Api, ApiError, passed_on
from console.figures import Figures
from console.live import Streams, pass_on
from console.session import Session, Sessions
from runtime.service.settings import TRACE_PLACE

Page = Callable[["View"], Awaitable[web.StreamResponse]]
Route = tuple[str, str, Page]
_REDIRECT: Final = 303
_NOTHING: Final = 204
WAITING_MAX: Final = 50
"""Pages that wait for a transaction's end at a time: half of the connections to the API."""
APPEARANCE: Final = "ackledger_appearance"
APPEARANCES: Final = ("light", "dark")


def begin_of_day(day: str, *, days_later: int = 0) -> str:
    """Return the moment at which a day begins, in UTC; empty for what is no day."""
    try:
        found = date.fromisoformat(day) + timedelta(days=days_later)
    except (ValueError, OverflowError):
        return ""
    return f"{found.isoformat()}T00:00:00Z"


LOOK_DIGITS_MAX: Final = 3
"""Of the number of a look: nothing takes a thousand by itself."""


class View:
    """One request for a page."""

    SESSION: Final = web.RequestKey("session", object)
    LEFT: Final = web.RequestKey("left", bool)
    RENEWED: Final = web.RequestKey("renewed", object)
    """The session whose cookie goes out with the answer, where it is another than came in."""

    def __init__(self, request: web.Request, pages: "Pages") -> None:
        self.request = request
        self._pages = pages
        found = request.get(self.SESSION)
        self.session = found if isinstance(found, Session) else None

    @property
    def sessions(self) -> Sessions:
        """What logs people in and out."""
        return self._pages.sessions

    @property
    def figures(self) -> Figures:
        """What the processes say of themselves."""
        return self._pages.figures

    def trace_link(self, processing: Mapping[str, Any]) -> str | None:
        """Return where the trace of a transaction is looked at; None where it is not."""
        url = self._pages.trace_url
        if url is None or not processing["is_trace_kept"]:
            return None
        return url.replace(TRACE_PLACE, processing["trace_id"])

    def path(self, name: str) -> str:
        """Return a variable of the path."""
        return self.request.match_info[name]

    def segment(self, name: str) -> str:
        """Return a variable of the path as it is written in a path of the API."""
        return quote(self.path(name), safe="")

    def asked(self, name: str) -> str:
        """Return a query parameter, empty without one."""
        return self.request.query.get(name, "").strip()

    @property
    def look(self) -> int:
        """Which look at what goes on it is; 0 for the first, and for what is no number of one."""
        text = self.asked("look")
        is_number = text.isascii() and text.isdigit() and len(text) <= LOOK_DIGITS_MAX
        return int(text) if is_number else 0

    async def form(self) -> Mapping[str, str]:
        """Return the fields of a form as text; files are none of them."""
        fields = await self.request.post()
        return {name: value.strip() for name, value in fields.items() if isinstance(value, str)}

    async def chosen(self, name: str) -> list[str]:
        """Return every value that a form has of one name."""
        fields = await self.request.post()
        return [one.strip() for one in fields.getall(name, []) if isinstance(one, str)]

    async def try_to(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Answer:
        """Call the API for this person; the page looks at what came of it."""
        token = None if self.session is None else self.session.access_token
        sent = {**passed_on(self.request), **(headers or {})}
        return await self._pages.api.call(method, path, token=token, headers=sent, **more)

    async def get(self, path: str, **query: str) -> Any:
        """Return what the API has; raises ApiError, which becomes a page."""
        answer = await self.try_to("GET", path, query={k: v for k, v in query.items() if v})
        if not answer.is_well:
            raise ApiError(answer)
        return answer.json

    async def live(self, **query: str) -> web.StreamResponse:
        """Return a stream of transactions' ends; 204, upon which browsers ask no more, for none."""
        session, streams = self.session, self._pages.streams
        if session is None:
            raise web.HTTPForbidden
        headers = passed_on(self.request)
        if position := self.request.headers.get("Last-Event-ID"):
            headers["Last-Event-ID"] = position
        with streams.place(session.email) as is_free:
            if not is_free:
                return web.Response(status=_NOTHING)
            async with self._pages.api.following(
                token=session.access_token,
                query={name: value for name, value in query.items() if value},
                headers=headers,
            ) as upstream:
                if upstream is None:
                    return web.Response(status=_NOTHING)
                return await pass_on(self.request, upstream, streams)

    @asynccontextmanager
    async def patience(self, wait_s: int) -> AsyncIterator[int]:
        """Give how long a page may wait for the API: not at all where too many do."""
        waiting = self._pages.waiting
        if not wait_s or waiting.locked():
            yield 0
            return
        async with waiting:
            yield wait_s

    def show(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """Return a page."""
        return self._pages.response(template, self.request, status=status, **values)

    def ask_again(self, answer: Answer, form: Mapping[str, str]) -> web.Response:
        """Return a page that sends a form again as it was, key and all: it counts once."""
        return self.show(
            "unsure.html",
            status=answer.status,
            trouble=answer.trouble,
            path=self.request.rel_url.raw_path,
            fields=form,
        )

    def go(self, path: str) -> web.Response:
        """Send the browser on, by GET."""
        return web.Response(status=_REDIRECT, headers={"Location": path})

    def leave(self, response: web.Response) -> web.Response:
        """Take the cookie away with an answer."""
        self.request[self.LEFT] = True
        self.sessions.cookies.write(response, None)
        return response

    def enter(self, response: web.Response, session: Session) -> web.Response:
        """Give a cookie with an answer."""
        self.request[self.LEFT] = True
        self.sessions.cookies.write(response, session)
        return response


class Pages:
    """Writes pages."""

    def __init__(
        self,
        api: Api,
        sessions: Sessions,
        figures: Figures,
        templates: Environment,
        *,
        trace_url: str | None = None,
    ) -> None:
        self.trace_url = trace_url
        self.api = api
        self.sessions = sessions
        self.figures = figures
        self.waiting = asyncio.Semaphore(WAITING_MAX)
        self.streams = Streams()
        self._templates = templates

    def handler(self, page: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return the handler of a page."""

        async def respond(request: web.Request) -> web.StreamResponse:
            return await page(View(request, self))

        return respond

    def response(
        self, template: str, request: web.Request, *, status: int = 200, **values: Any
    ) -> web.Response:
        """Return a template filled in, as the person of a request sees it."""
        appearance = request.cookies.get(APPEARANCE)
        text = self._templates.get_template(template).render(
            {
                "session": request.get(View.SESSION),
                "path": request.path,
                "appearance": appearance if appearance in APPEARANCES else None,
                "trouble": None,
                "done": None,
                "is_live": False,
                "stream": None,
                **values,
            }
        )
        return web.Response(text=text, status=status, content_type="text/html")

    def refusal(self, status: int, sentence: str, request: web.Request) -> web.Response:
        """Return a page that says why there is no other."""
        return self.response("refusal.html", request, status=status, trouble=sentence)
