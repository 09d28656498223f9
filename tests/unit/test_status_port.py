"""The status port: what monitoring and probes may ask, and what it makes of anything else."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from runtime.service.status_http import (
    CONNECTIONS_MAX,
    HEADERS_MAX,
    LINE_BYTES_MAX,
    StatusAnswer,
    StatusConnections,
)

HOST = "127.0.0.1"
_TEXT = "text/plain; charset=utf-8"
_BODY = b"accept=*/*"
_FIRST = "GET /metrics HTTP/1.1"


async def _read(headers: Mapping[str, str]) -> StatusAnswer:
    return StatusAnswer(200, _TEXT, f"accept={headers.get('accept')}".encode())


async def _fail(_: Mapping[str, str]) -> StatusAnswer:
    raise RuntimeError("a metric that cannot be read")


@asynccontextmanager
async def _listening() -> AsyncIterator[int]:
    connections = StatusConnections({"/metrics": _read, "/broken": _fail})
    server = await asyncio.get_running_loop().create_server(connections, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await connections.close()


def _request(first: str = _FIRST, *headers: str) -> bytes:
    return "\r\n".join([first, "Host: here", "Accept: */*", *headers, "", ""]).encode()


async def _asked(port: int, *requests: bytes) -> bytes:
    """Return all that comes until the connection ends, which the last of the requests makes it."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"".join(requests))
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


def _malformed() -> float:
    return REGISTRY.get_sample_value("ackledger_http_malformed_requests_total") or 0.0


async def test_requests_are_answered_one_after_the_other_until_the_client_wants_no_more() -> None:
    async with _listening() as port:
        answer = await _asked(port, _request(), _request(), _request(_FIRST, "Connection: close"))

    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answer.count(b"Content-Type: text/plain; charset=utf-8\r\n") == 3
    assert answer.endswith(b"Connection: close\r\n\r\n" + _BODY)


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("GET /metrics?name[]=up HTTP/1.1", b"200 OK"),
        ("GET /nothing HTTP/1.1", b"404 Not Found"),
        ("POST /metrics HTTP/1.1", b"405 Method Not Allowed"),
        ("GET /metrics HTTP/1.0", b"200 OK"),
    ],
)
async def test_each_path_answers_reading_alone(first: str, status: bytes) -> None:
    async with _listening() as port:
        answer = await _asked(port, _request(first, "Connection: close"))

    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")


async def test_a_head_request_has_the_length_and_no_body() -> None:
    async with _listening() as port:
        answer = await _asked(port, _request("HEAD /metrics HTTP/1.1", "Connection: close"))

    assert b"Content-Length: 10\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("header", ["Content-Length: 30", "Transfer-Encoding: chunked"])
async def test_a_body_is_never_taken_for_the_next_request(header: str) -> None:
    async with _listening() as port:
        answer = await _asked(port, _request(_FIRST, header), _request())

    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/9\r\n\r\n",
        b"\x16\x03\x01 a greeting of TLS\n",
        b"GET /metrics HTTP/1.1\r\nAccept : */*\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nAccept: */*\r\n folded\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nAccept: a\x00b\r\n\r\n",
        b"GET /metrics HTTP/1.1\nAccept: */*\n\n",
        b"GET /" + b"x" * LINE_BYTES_MAX + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * (HEADERS_MAX + 1) + b"\r\n",
    ],
)
async def test_what_is_no_http_is_counted_and_refused(request_bytes: bytes) -> None:
    before = _malformed()
    async with _listening() as port:
        answer = await _asked(port, request_bytes)

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert _malformed() == before + 1


async def test_in_a_crowd_the_oldest_connection_makes_room() -> None:
    async with _listening() as port:
        crowd = [await asyncio.open_connection(HOST, port) for _ in range(CONNECTIONS_MAX)]
        answer = await _asked(port, _request(_FIRST, "Connection: close"))
        async with asyncio.timeout(10):
            oldest = await crowd[0][0].read()
        crowd[1][1].write(_request(_FIRST, "Connection: close"))
        second = await crowd[1][0].read()
        for _, writer in crowd:
            writer.close()

    assert oldest == b""
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_what_cannot_be_told_is_an_answer_too() -> None:
    async with _listening() as port:
        answer = await _asked(port, _request("GET /broken HTTP/1.1", "Connection: close"))

    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
