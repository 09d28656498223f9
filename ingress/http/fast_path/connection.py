"""Connections of the fast path: one request after the other, until one is not for it.

A request is read from the bytes, and its answer written to them, without aiohttp's objects; what is
not plain HTTP/1.1 with a short body is handed over to aiohttp with all that was received.
"""

import asyncio
import re
import socket
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol, TypeAlias, cast

from ingress.calls import (
    Answer,
    Measure,
    Names,
    ReadCall,
    Services,
    StepCall,
    SubmitCall,
    names_of,
    wait_s_of,
)
from ingress.http.problems import problem_answer
from ingress.http.shell import PROTECTION, TAGGED_PROTECTION
from ingress.http.traces import RequestTraces
from ingress.metrics import CONNECTIONS, CONNECTIONS_CUT, CONNECTIONS_REFUSED
from ingress.parsing import Query
from ingress.wallet_calls import ReadEntriesCall, ReadWalletCall

HEAD_BYTES_MAX: Final = 8_000
"""Less than aiohttp takes for one header: what is longer is its business."""
BODY_BYTES_MAX: Final = 64_000
"""Many times the largest transaction; what is longer comes in pieces that aiohttp puts together."""


class Request(NamedTuple):
    """One whole request. Names of headers are in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Unread(Enum):
    """Why there is no request to be had from some bytes."""

    INCOMPLETE = auto()
    """So far it is one for the fast path; the rest has not come yet."""
    NOT_PLAIN = auto()
    """It is something else, or might be."""


_STARTS: Final = (
    b"POST /v1/transactions HTTP/1.1\r\n",
    b"GET /v1/transactions/",
    b"GET /v1/wallets/",
)
_HEADER: Final = re.compile(r"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e]*)(?=\r\n)")
_PATH: Final = re.compile(r"/[0-9A-Za-z/-]*(?:\?[0-9A-Za-z=&_-]*)?")
_LENGTH: Final = re.compile(r"[0-9]{1,6}", re.ASCII)
# They change how a message is framed, or how aiohttp or a handler of ours reads it.
_NOT_PLAIN: Final = frozenset(
    {
        "content-encoding",
        "expect",
        "sec-websocket-key1",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def read_request(data: bytes) -> Request | Unread:
    """Return the one request that `data` is; data behind its end make it NOT_PLAIN.

    Every header stands once, on one line, in printable ASCII; the body has a Content-Length. That
    leaves no room for two programs to disagree on where a request ends.
    """
    if not data.startswith(_STARTS):
        return Unread.NOT_PLAIN
    end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
    if end < 0:
        return Unread.INCOMPLETE if len(data) < HEAD_BYTES_MAX else Unread.NOT_PLAIN
    try:
        head = data[: end + 2].decode("ascii")
    except UnicodeDecodeError:
        return Unread.NOT_PLAIN
    return _request(data, head, start=end + 4)


def _request(data: bytes, head: str, *, start: int) -> Request | Unread:
    line = head[: head.index("\r\n")].split(" ")
    headers = _headers(head)
    if headers is None or len(line) != len(("method", "path", "version")):
        return Unread.NOT_PLAIN
    method, path, version = line
    length = _body_length(method, headers)
    if version != "HTTP/1.1" or length is None or not _PATH.fullmatch(path):
        return Unread.NOT_PLAIN
    if len(data) < start + length:
        return Unread.INCOMPLETE
    if len(data) > start + length:
        return Unread.NOT_PLAIN
    return Request(method, path, headers, data[start:])


def _headers(head: str) -> dict[str, str] | None:
    found = _HEADER.findall(head)
    lines = head.count("\n")
    # Each line was read as a header, the first one apart; no line ends in any other way.
    if len(found) != lines - 1 or head.count("\r") != lines:
        return None
    headers = {name.lower(): value.strip(" \t") for name, value in found}
    if len(headers) != len(found) or not _NOT_PLAIN.isdisjoint(headers) or "host" not in headers:
        return None
    if headers.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    return headers


def _body_length(method: str, headers: dict[str, str]) -> int | None:
    """How long the body is: a POST says it, a GET has none."""
    text = headers.get("content-length")
    if method == "GET":
        return 0 if text is None else None
    if text is None or not _LENGTH.fullmatch(text):
        return None
    length = int(text)
    return length if length <= BODY_BYTES_MAX else None


def _written(headers: Mapping[str, str]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


_PROTECTION: Final = _written(PROTECTION)
_TAGGED_PROTECTION: Final = _written(TAGGED_PROTECTION)
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


def write_answer(answer: Answer, *, request_id: str) -> bytes:
    """Return an answer as it goes over the wire, with the headers that aiohttp gives it."""
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n{_written(answer.headers)}"
        f"Content-Type: {answer.content_type}\r\n"
        f"X-Request-Id: {request_id}\r\n"
        f"{_TAGGED_PROTECTION if 'ETag' in answer.headers else _PROTECTION}"
        f"Content-Length: {len(answer.body)}\r\n"
        f"Date: {_CLOCK.date()}\r\n\r\n"
    )
    return head.encode("ascii") + answer.body


class _Clock:
    """The date in its HTTP form, written once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._date = ""

    def date(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._date = formatdate(second, usegmt=True)
            self._second = second
        return self._date


_CLOCK: Final = _Clock()


PATIENCE_S: Final = 1.0
"""A request whose rest does not come in this time goes to aiohttp, which knows how long to wait."""
IDLE_S: Final = 3630.0
"""How long a connection is kept on which nothing happens: longer than proxies keep theirs."""
CONNECTIONS_MAX: Final = 10_000
CROWDED_IDLE_S: Final = 10.0
"""The same while most of the connections that there may be are open: then the idle make room."""
CROWDED_SHARE: Final = 0.75
UNREAD_S: Final = 30.0
"""How long an answer waits for its client to read it: a megabyte takes no longer over the slowest
line that is worth serving."""
LOOK_INTERVAL_S: Final = 0.5

_SUBMIT_PATH: Final = "/v1/transactions"
_ID: Final = "([0-9a-f-]{36})"
_TRANSACTION: Final = re.compile(f"/v1/transactions/{_ID}")
_WALLET: Final = re.compile(f"/v1/wallets/{_ID}")
_ENTRIES: Final = re.compile(
    rf"/v1/wallets/{_ID}/entries"
    r"(?:\?(limit=[0-9]+(?:&cursor=[\w-]+)?|cursor=[\w-]+(?:&limit=[0-9]+)?))?",
    re.ASCII,
)
_ENTRIES_PARAMETERS: Final = frozenset({"limit", "cursor"})
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


class Successor(Protocol):
    """The protocol of a connection that left the fast path."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""

    def eof_received(self) -> bool | None:
        """Return whether to stay open for what is under way."""

    def look(self, now: float, *, idle_s: float) -> None:
        """Close where nothing has happened for so long."""


class FastPath:
    """Makes the connections of a listening socket, and sees to their end."""

    def __init__(
        self,
        calls: Calls,
        *,
        fallback: Callable[[], Successor],
        idle_s: float = IDLE_S,
        connections_max: int = CONNECTIONS_MAX,
        unread_s: float = UNREAD_S,
    ) -> None:
        """`fallback` makes what serves the connections that leave the fast path.

        `connections_max` counts both kinds.
        """
        self.is_known = calls.is_known
        self.begin = calls.begin
        self.fallback = fallback
        self.unread_s = unread_s
        self.connections: set[FastConnection] = set()
        self._handed_over: dict[asyncio.Transport, Successor] = {}
        self._idle_s = idle_s
        self._connections_max = connections_max
        self.is_draining = False
        self._noticed = asyncio.Event()

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return FastConnection(self)

    async def run(self) -> None:
        """See to connections on which something is late, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            self._look(time.monotonic())
            CONNECTIONS.set(len(self.connections) + len(self._handed_over))

    def is_full(self) -> bool:
        """Whether there are as many connections as there may be, beside the one that asks."""
        if len(self.connections) + len(self._handed_over) < self._connections_max:
            return False
        self._forget_closed()
        return len(self.connections) + len(self._handed_over) >= self._connections_max

    def keep(self, transport: asyncio.Transport, successor: Successor) -> None:
        """See to the end of a connection that leaves the fast path."""
        self._handed_over[transport] = successor

    async def drain(self) -> None:
        """Close connections as they fall idle; return when every request is answered."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.leave()
        while any(connection.is_busy for connection in self.connections):
            self._noticed.clear()
            await self._noticed.wait()

    def _look(self, now: float) -> None:
        self._forget_closed()
        count = len(self.connections) + len(self._handed_over)
        is_crowded = count > CROWDED_SHARE * self._connections_max
        idle_s = min(self._idle_s, CROWDED_IDLE_S) if is_crowded else self._idle_s
        for connection in list(self.connections):
            connection.look(now, idle_s=idle_s)
        for successor in list(self._handed_over.values()):
            successor.look(now, idle_s=idle_s)

    def _forget_closed(self) -> None:
        for transport in [one for one in self._handed_over if one.is_closing()]:
            del self._handed_over[transport]

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
        self._choked_since = 0.0
        self._is_paused = False
        self._is_at_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports are asyncio's in all but their base class.
        made = cast(asyncio.Transport, transport)
        if self._fast_path.is_full():
            CONNECTIONS_REFUSED.inc()
            made.abort()
            return
        self._transport = made
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
        self._choked_since = time.monotonic()

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

    def look(self, now: float, *, idle_s: float) -> None:
        """Hand over what comes too slowly, and close what is idle or not read for too long."""
        if self._is_choked:
            if now - self._choked_since > self._fast_path.unread_s:
                self._cut()
        elif self._is_at_work:
            return
        elif self._received and now - self._since > PATIENCE_S:
            self._hand_over()
        elif now - self._since > idle_s:
            self.leave()

    def leave(self) -> None:
        """Close unless a request is at work or on its way."""
        if self._transport is not None and not self.is_busy:
            self._transport.close()

    def _cut(self) -> None:
        """Drop a client that does not read: a close would wait for it."""
        if self._transport is not None:
            CONNECTIONS_CUT.inc()
            self._transport.abort()

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
        self._fast_path.keep(transport, successor)
        transport.set_protocol(cast(asyncio.Protocol, successor))
        successor.connection_made(transport)
        successor.data_received(received)
        if self._is_at_end and not successor.eof_received():
            transport.close()


class FastCalls:
    """Submits single transactions, and reads them and wallets."""

    def __init__(
        self,
        services: Services,
        *,
        is_open: bool = True,
        is_cross_origin: bool = False,
        traces: RequestTraces | None = None,
    ) -> None:
        """`is_open`: else no call is one of the fast path's.

        `is_cross_origin`: pages of other origins may call; what comes from one is aiohttp's.
        """
        self._services = services
        self._traces = traces or RequestTraces()
        self._names_of = self._traces.names_of if self._traces.is_on else names_of
        self._is_open = is_open
        self._is_cross_origin = is_cross_origin
        self._submissions = Measure("submit_transaction")
        self._readings = (
            (_TRANSACTION, Measure("read_transaction"), _transaction),
            (_WALLET, Measure("read_wallet"), _wallet),
            (_ENTRIES, Measure("list_wallet_entries"), _entries),
        )

    def is_known(self, request: Request) -> bool:
        """Whether the request is a plain one for one of these calls."""
        if not self._is_open or (self._is_cross_origin and "origin" in request.headers):
            return False
        if request.method == "GET":
            is_read = any(path.fullmatch(request.path) for path, _, _ in self._readings)
            return is_read and "if-none-match" not in request.headers
        content_type = request.headers.get("content-type", "").lower().replace(" ", "")
        return request.path == _SUBMIT_PATH and content_type in _JSON

    def begin(self, request: Request, caller: Caller) -> None:
        """Begin a known call; the caller gets one answer, whatever happens."""
        started = time.perf_counter()
        method, path, headers, body = request
        names = self._names_of(headers.get("traceparent"), headers.get("x-request-id"))
        wait_s = wait_s_of(headers.get("prefer"))
        if method == "GET":
            measure, make = self._reading(path)
        else:
            measure = self._submissions
            make = partial(SubmitCall, body=body, header_key=headers.get("idempotency-key"))
        finish = partial(self._finish, request, caller, names, started, measure=measure)
        call = make(self._services, names=names, wait_s=wait_s, finish=finish)
        call.begin(headers.get("authorization", ""))

    def _reading(self, path: str) -> tuple[Measure, "Make"]:
        for known, measure, make_of in self._readings:
            if (match := known.fullmatch(path)) is not None:
                return measure, make_of(match)
        raise AssertionError("is_known has said that the path is one of these")

    def _finish(
        self,
        request: Request,
        caller: Caller,
        names: Names,
        started: float,
        outcome: Answer | Exception,
        *,
        measure: Measure,
    ) -> None:
        """Count what came of a call, and send it."""
        if isinstance(outcome, Exception):
            path = request.path.partition("?")[0]
            outcome = problem_answer(outcome, path=path, names=names)
        measure.count(outcome.status, started=started)
        if self._traces.is_on:
            self._traces.answered(
                measure.operation_id,
                names,
                received=request.headers.get("traceparent"),
                status=outcome.status,
                started=started,
            )
        caller.answer(write_answer(outcome, request_id=names[1]))


Make: TypeAlias = Callable[..., StepCall]


def _transaction(match: re.Match[str]) -> Make:
    return partial(ReadCall, transaction_id=match[1])


def _wallet(match: re.Match[str]) -> Make:
    return partial(ReadWalletCall, wallet_id=match[1])


def _entries(match: re.Match[str]) -> Make:
    pairs = [pair.partition("=") for pair in match[2].split("&")] if match[2] else []
    query = Query([(name, value) for name, _, value in pairs], _ENTRIES_PARAMETERS)
    return partial(ReadEntriesCall, wallet_id=match[1], query=query)
