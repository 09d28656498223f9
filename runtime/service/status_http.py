"""HTTP/1.1 for a status port: GET and HEAD of a few paths, and nothing else.

aiohttp takes 100 ms to import, a quarter of the start of a process that serves nothing else.

No body is ever read: a request that has one is answered, and its connection closed.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias

import structlog

from runtime.service.malformed import note_malformed

LINE_BYTES_MAX: Final = 8_190
"""What aiohttp takes for a line of a head, too."""
HEADERS_MAX: Final = 100
IDLE_S: Final = 75.0
"""How long a connection is kept on which nothing is asked: longer than monitoring pauses."""
HEAD_S: Final = 10.0
"""How long a head may take once it has begun, and its answer until it is taken."""
CONNECTIONS_MAX: Final = 256
"""Many times what monitoring and probes open at once; beyond it the oldest make room."""

_REQUEST: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.([01])\r\n")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)\r\n")
_BODY: Final = frozenset({"content-length", "transfer-encoding"})

log = structlog.get_logger()


class StatusAnswer(NamedTuple):
    """What is sent back."""

    status: int
    content_type: str
    body: bytes


Read: TypeAlias = Callable[[Mapping[str, str]], Awaitable[StatusAnswer]]
"""Answers a request by its headers, whose names are in small letters."""


class MalformedRequestError(Exception):
    """No HTTP/1.1, or more of it than a status port takes."""


class _Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    is_last: bool


class StatusConnections:
    """Serves every connection of a listening socket."""

    def __init__(self, reads: Mapping[str, Read]) -> None:
        """`reads` by path; each is answered for HEAD as for GET, without the body."""
        self._reads = dict(reads)
        # The oldest first.
        self._serving: dict[asyncio.Task[None], None] = {}

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        return asyncio.StreamReaderProtocol(reader, self._begin)

    async def close(self) -> None:
        """End every connection."""
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._serving) >= CONNECTIONS_MAX:
            # A probe has just come, and is not kept out by those who came before and stay.
            self._end(next(iter(self._serving)))
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving[task] = None
        task.add_done_callback(self._forget)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._forget(task)
        task.cancel()

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._serving.pop(task, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer_all(reader, writer)
        except (OSError, TimeoutError):
            # The client is gone, or too slow; one that reads nothing must not delay the end.
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _next_request(reader)) is not None:
                await _send(writer, await self._answer(request), request)
                if request.is_last:
                    return
        except MalformedRequestError as error:
            note_malformed(error)
            await _send(writer, _refusal(HTTPStatus.BAD_REQUEST), None)

    async def _answer(self, request: _Request) -> StatusAnswer:
        path = request.path.partition("?")[0]
        read = self._reads.get(path)
        if read is None:
            return _refusal(HTTPStatus.NOT_FOUND)
        if request.method not in {"GET", "HEAD"}:
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        try:
            return await read(request.headers)
        except Exception:
            log.exception("status_not_told", path=path)
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)


async def _next_request(reader: asyncio.StreamReader) -> _Request | None:
    """Return the next request, None at the end; raises MalformedRequestError, TimeoutError."""
    async with asyncio.timeout(IDLE_S):
        first = await _line(reader)
    if not first:
        return None
    match = _REQUEST.fullmatch(first)
    if match is None:
        raise MalformedRequestError("not a request line")
    async with asyncio.timeout(HEAD_S):
        headers = await _headers(reader)
    method, path, minor = match[1].decode(), match[2].decode(), match[3]
    connection = headers.get("connection", "keep-alive" if minor == b"1" else "close")
    is_last = connection.lower() != "keep-alive" or not _BODY.isdisjoint(headers)
    return _Request(method, path, headers, is_last=is_last)


async def _headers(reader: asyncio.StreamReader) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for _ in range(HEADERS_MAX + 1):
        line = await _line(reader)
        if line == b"\r\n":
            return headers
        match = _HEADER.fullmatch(line)
        if match is None:
            raise MalformedRequestError("not a header")
        headers[match[1].decode().lower()] = match[2].decode("latin-1").strip(" \t")
    raise MalformedRequestError("too many headers")


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        raise MalformedRequestError("a line that is too long") from None


async def _send(writer: asyncio.StreamWriter, answer: StatusAnswer, to: _Request | None) -> None:
    """Send an answer; `to` None: to what was no request, after which the connection ends."""
    is_last = to is None or to.is_last
    allow = "Allow: GET, HEAD\r\n" if answer.status == HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n{allow}"
        f"Connection: {'close' if is_last else 'keep-alive'}\r\n\r\n"
    )
    is_head = to is not None and to.method == "HEAD"
    writer.write(head.encode("ascii") + (b"" if is_head else answer.body))
    async with asyncio.timeout(HEAD_S):
        await writer.drain()


def _refusal(status: HTTPStatus) -> StatusAnswer:
    return StatusAnswer(status, "text/plain; charset=utf-8", f"{status} {status.phrase}".encode())
