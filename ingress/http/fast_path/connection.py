"""Connections of the fast path: one request after the other, until one is not for it."""

import asyncio
import re
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, cast

from ingress.calls import (
    Answer,
    Measure,
    Names,
    ReadCall,
    Services,
    SubmitCall,
    TransactionCall,
    names_of,
    wait_s_of,
)
from ingress.http.fast_path.wire import Request, Unread, read_request, write_answer
from ingress.http.problems import problem_answer

PATIENCE_S: Final = 1.0
"""A request whose rest does not come in this time goes to aiohttp, which knows how long to wait."""
IDLE_S: Final = 3630.0
"""As long as aiohttp keeps a connection on which nothing happens: longer than proxies do."""
LOOK_INTERVAL_S: Final = 0.5

_SUBMIT_PATH: Final = "/v1/transactions"
_READ_PATH: Final = re.compile(r"/v1/transactions/[0-9a-f-]{36}")
_JSON: Final = frozenset({"application/json", "application/json;charset=utf-8"})


class Caller(Protocol):
    """Where a call's answer goes."""

    def answer(self, answer: bytes) -> None:
        """Send the answer; nothing happens where the client is gone."""


class Calls(Protocol):
    """What the fast path can do for a client."""

    def is_known(self, request: Request) -> bool:
        """Whether the request is for one of the fast path's calls."""

    def begin(self, request: Request, caller: Caller) -> None:
        """Begin a known call; the caller gets one answer, whatever happens."""


class FastPath:
    """Makes the connections of a listening socket, and sees to their end."""

    def __init__(self, calls: Calls, *, fallback: Callable[[], asyncio.Protocol]) -> None:
        """`fallback` makes what serves the connections that leave the fast path."""
        self.is_known = calls.is_known
        self.begin = calls.begin
        self.fallback = fallback
        self.connections: set[FastConnection] = set()
        self.is_draining = False
        self._noticed = asyncio.Event()

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return FastConnection(self)

    async def run(self) -> None:
        """See to connections on which something is late, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            now = time.monotonic()
            for connection in list(self.connections):
                connection.look(now)

    async def drain(self) -> None:
        """Close connections as they fall idle; return when every request is answered."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.leave()
        while any(connection.is_busy for connection in self.connections):
            self._noticed.clear()
            await self._noticed.wait()

    def notice(self, connection: "FastConnection", *, is_gone: bool) -> None:
        """Take note of an answered request, or forget a connection."""
        if is_gone:
            self.connections.discard(connection)
        self._noticed.set()


class FastConnection(asyncio.Protocol):
    """One client. At most one request is at work; what comes behind it waits in the socket."""

    def __init__(self, fast_path: FastPath) -> None:
        self._fast_path = fast_path
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._since = time.monotonic()
        self._is_at_work = False
        self._is_choked = False
        self._is_paused = False
        self._is_at_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports are asyncio's in all but their base class.
        self._transport = cast(asyncio.Transport, transport)
        connected = transport.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._fast_path.connections.add(self)

    @property
    def is_busy(self) -> bool:
        """Whether a request is at work or on its way."""
        return self._is_at_work or bool(self._received)

    def data_received(self, data: bytes) -> None:
        """Take a request, or a part of one."""
        if self._received:
            self._received += data
        else:
            self._received = data
            self._since = time.monotonic()
        if self._is_at_work or self._is_choked:
            self._pause()
        else:
            self._take()

    def eof_received(self) -> bool:
        """Stay open for the answers to what has come whole; nothing more will come."""
        self._is_at_end = True
        return self._is_at_work or (self._is_choked and self.is_busy)

    def pause_writing(self) -> None:
        """Take nothing more from a client that does not read its answers."""
        self._is_choked = True

    def resume_writing(self) -> None:
        """Go on."""
        self._is_choked = False
        self._go_on()

    def connection_lost(self, _: Exception | None) -> None:
        """Let the request at work end by itself; nobody hears of it."""
        self._transport = None
        self._received = b""
        self._fast_path.notice(self, is_gone=True)

    def answer(self, answer: bytes) -> None:
        """Send the answer to the request at work, and go on."""
        self._is_at_work = False
        self._since = time.monotonic()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)
            self._go_on()

    def look(self, now: float) -> None:
        """Hand over what comes too slowly, and close what is idle for too long."""
        if self._is_at_work or self._is_choked:
            return
        if self._received and now - self._since > PATIENCE_S:
            self._hand_over()
        elif now - self._since > IDLE_S:
            self.leave()

    def leave(self) -> None:
        """Close unless a request is at work or on its way."""
        if self._transport is not None and not self.is_busy:
            self._transport.close()

    def _take(self) -> None:
        """Begin the call that has come; hand the connection over if it is not for the fast path."""
        request = read_request(self._received)
        if request is Unread.INCOMPLETE:
            self._close_at_end()
            return
        if isinstance(request, Request) and self._fast_path.is_known(request):
            self._received = b""
            self._is_at_work = True
            self._fast_path.begin(request, self)
        else:
            self._hand_over()

    def _go_on(self) -> None:
        """Turn to what has come in the meantime."""
        if self._fast_path.is_draining:
            self.leave()
            self._fast_path.notice(self, is_gone=False)
        if self._is_at_work or self._is_choked or self._transport is None:
            return
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        if self._received:
            self._take()
        else:
            self._close_at_end()

    def _close_at_end(self) -> None:
        """Close where the client sends nothing more: not even the rest of what has begun."""
        if self._is_at_end and self._transport is not None:
            self._transport.close()

    def _pause(self) -> None:
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _hand_over(self) -> None:
        """Let the fallback serve this connection from here on, beginning with what has come."""
        transport, received = self._transport, self._received
        if transport is None or transport.is_closing():
            return
        self._transport, self._received = None, b""
        self._fast_path.notice(self, is_gone=True)
        successor = self._fast_path.fallback()
        transport.set_protocol(successor)
        successor.connection_made(transport)
        successor.data_received(received)
        if self._is_at_end and not successor.eof_received():
            transport.close()


class FastCalls:
    """Submits single transactions and reads them, for clients that no rate limits."""

    def __init__(self, services: Services, *, is_limited: bool) -> None:
        """`is_limited`: Redis is asked for each request; then no call is one of the fast path's."""
        self._services = services
        self._is_limited = is_limited
        self._submissions = Measure("submit_transaction")
        self._readings = Measure("read_transaction")

    def is_known(self, request: Request) -> bool:
        """Whether the request is a plain one for one of the two calls."""
        if self._is_limited:
            return False
        if request.method == "GET":
            return _READ_PATH.fullmatch(request.path) is not None
        content_type = request.headers.get("content-type", "").lower().replace(" ", "")
        return request.path == _SUBMIT_PATH and content_type in _JSON

    def begin(self, request: Request, caller: Caller) -> None:
        """Begin a known call; the caller gets one answer, whatever happens."""
        started = time.perf_counter()
        method, path, headers, body = request
        names = names_of(headers.get("traceparent"), headers.get("x-request-id"))
        wait_s = wait_s_of(headers.get("prefer"))
        finish = partial(self._finish, request, caller, names, started)
        services = self._services
        call: TransactionCall
        if method == "GET":
            sent_id = path.rpartition("/")[2]
            call = ReadCall(
                services, transaction_id=sent_id, names=names, wait_s=wait_s, finish=finish
            )
        else:
            key = headers.get("idempotency-key")
            call = SubmitCall(
                services, body=body, header_key=key, names=names, wait_s=wait_s, finish=finish
            )
        call.begin(headers.get("authorization", ""))

    def _finish(
        self,
        request: Request,
        caller: Caller,
        names: Names,
        started: float,
        outcome: Answer | Exception,
    ) -> None:
        """Count what came of a call, and send it."""
        _, request_id = names
        if isinstance(outcome, Exception):
            outcome = problem_answer(outcome, path=request.path, request_id=request_id)
        measure = self._readings if request.method == "GET" else self._submissions
        measure.count(outcome.status, started=started)
        caller.answer(write_answer(outcome, request_id=request_id))
