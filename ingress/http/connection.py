"""Connections that aiohttp serves: its protocol, with bounds and answers that it has not itself.

A head that never ends is timed out, and so is an answer that is not read; a request that is no HTTP
gets a problem like any other, and a client that closes its sending side behind its request still
gets the answer.
"""

import asyncio
import time
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from contracts.problems import ContractError, ProblemCode
from ingress.calls import Answer, names_of
from ingress.http.fast_path.connection import UNREAD_S, write_answer
from ingress.http.middleware import NAMES, problem_response, response_of
from ingress.http.problems import problem_answer
from ingress.http.shell import protect
from ingress.metrics import CONNECTIONS_CUT
from runtime.service.malformed import note_malformed

HEAD_TIMEOUT_S: Final = 10.0
"""From a head's first byte to its last: they are a few kilobytes, sent at once by every client."""

_BAD_REQUEST: Final = 400


class HttpConnection(RequestHandler):
    """One connection of an aiohttp server."""

    __slots__ = (
        "_answered",
        "_head_timeout_s",
        "_head_timer",
        "_is_at_end",
        "_last_body",
        "_since",
        "_unread_s",
        "_unread_timer",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        head_timeout_s: float = HEAD_TIMEOUT_S,
        unread_s: float = UNREAD_S,
    ) -> None:
        """`server` is a running application's; `unread_s`: how long an answer waits to be read."""
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, access_log=None)  # type: ignore[arg-type]
        self._answered = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_timeout_s = head_timeout_s
        self._is_at_end = False
        self._last_body: StreamReader | None = None
        self._since = time.monotonic()
        self._unread_s = unread_s
        self._unread_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take what the client sent; what begins a head has to end it in time."""
        heads = self._request_count
        super().data_received(data)
        if self._request_count != heads:
            self._stop_head_timer()
            _, self._last_body = self._messages[-1]
        elif self._head_timer is None and self._awaits_head() and data.strip(b"\r\n"):
            self._head_timer = self._loop.call_later(self._head_timeout_s, self._end_late_head)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for it
        """Stay open for the answer to a request that has come whole."""
        self._is_at_end = True
        return self._owes_an_answer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        self._stop_head_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait so long for the client to read what it was sent, and no longer."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self._loop.call_later(self._unread_s, self._cut)

    def resume_writing(self) -> None:
        """Go on."""
        self._stop_unread_timer()
        super().resume_writing()

    def look(self, now: float, *, idle_s: float) -> None:
        """Close where nothing has happened for so long."""
        is_idle = self._awaits_head() and self._head_timer is None
        if is_idle and now - self._since > idle_s:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # it may repeat what the client sent: a key
    ) -> web.StreamResponse:
        """Return the problem that a failure is which no handler saw: mostly no valid HTTP."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        error = exc if isinstance(exc, Exception) else RuntimeError(f"status {status}")
        if status == _BAD_REQUEST:
            # What went wrong repeats the client's own line, and that may be a key.
            note_malformed(error)
            error = _malformed(exc)
        names = names_of(None, None)
        answer = problem_answer(error, path=request.rel_url.raw_path, names=names)
        response = response_of(answer)
        response.headers["X-Request-Id"] = names[1]
        protect(response)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; what aiohttp refuses by itself becomes a problem."""
        if isinstance(resp, web.HTTPException):
            request[NAMES] = names_of(None, request.headers.get("X-Request-Id"))
            resp = problem_response(request, resp)
            resp.headers["X-Request-Id"] = request[NAMES][1]
            protect(resp)
        self._answered += 1
        self._since = time.monotonic()
        if self._is_at_end and self._answered == self._request_count:
            self.close()
        return await super().finish_response(request, resp, start_time)

    def _awaits_head(self) -> bool:
        """Whether what comes now is a head, and neither a body nor behind an unanswered request."""
        waiter = self._waiter
        return self._request_count == 0 or (waiter is not None and not waiter.done())

    def _owes_an_answer(self) -> bool:
        """Whether a request has come whole and is not answered yet."""
        is_answered = self._request_count == self._answered
        return not is_answered and self._last_body is not None and self._last_body.is_eof()

    def _end_late_head(self) -> None:
        self._head_timer = None
        if self.transport is None or not self._awaits_head():
            return
        late = ContractError(
            ProblemCode.REQUEST_TIMEOUT, f"send the head within {self._head_timeout_s:g} s"
        )
        names = names_of(None, None)
        answer = problem_answer(late, path="/", names=names)
        answer = Answer(answer.status, answer.body, {"Connection": "close"}, answer.content_type)
        self.transport.write(write_answer(answer, request_id=names[1]))
        self.force_close()

    def _cut(self) -> None:
        self._unread_timer = None
        if self.transport is not None:
            CONNECTIONS_CUT.inc()
            self.transport.abort()

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _malformed(exc: BaseException | None) -> ContractError:
    """Return what is wrong with a request that is no valid HTTP, without a word of it."""
    detail = "what was sent is not valid HTTP/1.1"
    if isinstance(exc, LineTooLong):
        detail = "the request line or a header is too long"
    return ContractError(ProblemCode.MALFORMED_REQUEST, detail)
