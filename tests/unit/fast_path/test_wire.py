"""The strict subset of HTTP: whatever it reads, aiohttp reads too, and no differently."""

import asyncio
from typing import Any, Final

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from ingress.calls import Answer
from ingress.http.fast_path.connection import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    Request,
    Unread,
    read_request,
    write_answer,
)

_BODY: Final = b'{"type": "deposit"}'
_SUBMIT: Final = [
    b"POST /v1/transactions HTTP/1.1",
    b"Host: bank",
    b"Authorization: Bearer ack_1",
    b"Content-Type: application/json",
    b"Content-Length: %d" % len(_BODY),
    b"Idempotency-Key: order-1",
]
_READ: Final = [
    b"GET /v1/transactions/0197f0a4-55d1-7c1e-9d5d-0a3f0f5a7c10 HTTP/1.1",
    b"Host: bank",
]
_ENTRIES: Final = [
    b"GET /v1/wallets/0197f0a4-55d1-7c1e-9d5d-0a3f0f5a7c10/entries?limit=2&cursor=a_b-C HTTP/1.1",
    b"Host: bank",
]


def _wired(lines: list[bytes], body: bytes = b"") -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


SUBMIT: Final = _wired(_SUBMIT, _BODY)
READ: Final = _wired(_READ)


def test_a_submission_is_read_whole() -> None:
    request = read_request(SUBMIT)

    assert isinstance(request, Request)
    assert (request.method, request.path, request.body) == ("POST", "/v1/transactions", _BODY)
    assert request.headers["idempotency-key"] == "order-1"


def test_every_beginning_of_a_submission_is_incomplete() -> None:
    begun = range(len(b"POST /v1/transactions HTTP/1.1\r\n"), len(SUBMIT))

    assert {read_request(SUBMIT[:length]) for length in begun} == {Unread.INCOMPLETE}


@pytest.mark.parametrize(
    "more",
    [
        b"Content-Length: 19",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"Expect: 100-continue",
        b"Upgrade: websocket",
        b"Connection: close",
        b"Connection: keep-alive, TE",
        b"TE: trailers",
        b"Trailer: Expires",
        b"Host: other",
        b"X-Name: caf\xc3\xa9",
        b"X-Name: a\x00b",
        b"X-Name: a\rb",
        b"X-Name: a\nb",
        b"X-Name: a\n b",
        b" folded: yes",
        b"X-Name : a",
        b"X Name: a",
        b": a",
        b"X-Name",
        b"X-Long: " + b"x" * HEAD_BYTES_MAX,
    ],
)
def test_what_could_be_read_in_two_ways_is_not_plain(more: bytes) -> None:
    assert read_request(_wired([*_SUBMIT, more], _BODY)) is Unread.NOT_PLAIN


@pytest.mark.parametrize(
    "length",
    [b"", b"-1", b"+19", b"0x13", b"19, 19", b"1 9", b"\xb2", b"%d" % (BODY_BYTES_MAX + 1)],
)
def test_a_length_that_is_no_plain_number_is_not_plain(length: bytes) -> None:
    lines = [b"Content-Length: " + length if b"Length" in one else one for one in _SUBMIT]

    assert read_request(_wired(lines, _BODY)) is Unread.NOT_PLAIN


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz HTTP/1.1\r\nHost: bank\r\n\r\n",
        b"POST /v1/transactions/batch HTTP/1.1\r\nHost: bank\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/transactions HTTP/1.0\r\nHost: bank\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /v1/transactions/x HTTP/1.0\r\nHost: bank\r\n\r\n",
        b"GET /v1/transactions/x  HTTP/1.1\r\nHost: bank\r\n\r\n",
        b"GET /v1/transactions/x HTTP/1.1\r\n\r\n",
        b"GET /v1/transactions/x HTTP/1.1\r\nHost: bank\r\nContent-Length: 0\r\n\r\n",
        _wired([one for one in _SUBMIT if b"Length" not in one], _BODY),
        SUBMIT + b"P",
        READ + READ,
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
    ],
)
def test_anything_else_is_not_plain(data: bytes) -> None:
    assert read_request(data) is Unread.NOT_PLAIN


_LINES: Final = st.one_of(
    st.sampled_from([*_SUBMIT, *_READ]),
    st.sampled_from(
        [
            b"Transfer-Encoding: chunked",
            b"transfer-encoding:identity",
            b"Connection: keep-alive",
            b"Accept: */*",
            b"X-Pad:\t a \t",
            b"X-Empty:",
            b"Content-Length:  2  ",
            b"Content-Length:0",
        ]
    ),
    st.builds(
        lambda name, value: name + b": " + value,
        st.from_regex(rb"[A-Za-z-]{1,8}", fullmatch=True),
        st.binary(max_size=8),
    ),
    st.binary(max_size=12),
)


@st.composite
def _mutilated(draw: st.DrawFn) -> bytes:
    """Requests with lines put in, and bytes changed, dropped and added."""
    lines = list(draw(st.sampled_from([_SUBMIT, _READ, _ENTRIES])))
    for line in draw(st.lists(_LINES, max_size=3)):
        lines.insert(draw(st.integers(1, len(lines))), line)
    data = _wired(lines, draw(st.sampled_from([b"", _BODY, b"{}"])))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=2)) + data[place + draw(st.integers(0, 2)) :]
    return data


@given(_mutilated())
def test_what_is_plain_is_one_request_to_aiohttp_too(data: bytes) -> None:
    request = read_request(data)

    if isinstance(request, Request):
        assert _by_aiohttp(data) == (
            request.method,
            request.path,
            sorted(request.headers.items()),
            request.body,
        )


def _by_aiohttp(data: bytes) -> Any:
    """What aiohttp makes of it: method, path, headers and body of the only request."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(
            BaseProtocol(loop),
            loop,
            2**16,
            max_line_size=8190,
            max_field_size=8190,
            max_headers=128,
        )
        try:
            [[message, payload]], is_upgraded, tail = parser.feed_data(data)
        except (HttpProcessingError, ValueError) as error:
            return repr(error)
        assert (is_upgraded, tail, message.should_close) == (False, b"", False)
        body = payload.read_nowait() if payload.is_eof() or payload.total_bytes else b""
        headers = sorted((name.lower(), value) for name, value in message.headers.items())
        return message.method, message.path, headers, body
    finally:
        loop.close()


def test_an_answer_carries_the_calls_headers_and_the_usual_ones() -> None:
    written = write_answer(Answer(202, b"{}", {"Location": "/x"}), request_id="r-1")

    head, _, body = written.partition(b"\r\n\r\n")
    assert body == b"{}"
    assert [line.partition(b":")[0] for line in head.split(b"\r\n")] == [
        b"HTTP/1.1 202 Accepted",
        b"Location",
        b"Content-Type",
        b"X-Request-Id",
        b"X-Content-Type-Options",
        b"Referrer-Policy",
        b"Content-Security-Policy",
        b"Cache-Control",
        b"Server",
        b"Content-Length",
        b"Date",
    ]
