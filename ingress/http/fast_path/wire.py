"""HTTP/1.1 as the fast path reads and writes it: a strict subset without two readings."""

import re
import time
from email.utils import formatdate
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp.http import SERVER_SOFTWARE

from ingress.calls import Answer

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


_STARTS: Final = (b"POST /v1/transactions HTTP/1.1\r\n", b"GET /v1/transactions/")
_HEADER: Final = re.compile(r"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e]*)(?=\r\n)")
_PATH: Final = re.compile(r"/[0-9A-Za-z/-]*")
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


_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


def write_answer(answer: Answer, *, request_id: str) -> bytes:
    """Return an answer as it goes over the wire, with the headers that aiohttp gives it."""
    own = "".join([f"{name}: {value}\r\n" for name, value in answer.headers.items()])
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n{own}"
        f"Content-Type: {answer.content_type}\r\n"
        f"X-Request-Id: {request_id}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        f"Date: {_CLOCK.date()}\r\n"
        f"Server: {SERVER_SOFTWARE}\r\n\r\n"
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
