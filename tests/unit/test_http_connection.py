"""Connections that aiohttp serves: heads that never end, and clients that send nothing more."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import orjson
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from ingress.http.connection import HttpConnection
from ingress.http.middleware import naming
from ingress.http.traces import RequestTraces
from tests.support import eventually

_CUT: Final = "ackledger_ingress_connections_cut_total"
LATE_S: Final = 0.2
"""The bound on a head in these tests."""
OTHER: Final = b"GET /other HTTP/1.1\r\nHost: bank\r\n\r\n"
POST: Final = b"POST /other HTTP/1.1\r\nHost: bank\r\nContent-Length: 4\r\n\r\nbody"

MUCH: Final = 50_000_000
"""Bytes: more than any socket buffers."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def _connected(
    *, head_timeout_s: float = LATE_S, unread_s: float = 60
) -> AsyncIterator[Streams]:
    """A connection to an application that answers with the body that it was sent."""

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=b"<" + await request.read() + b">")

    async def write_much(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * MUCH)

    app = web.Application(middlewares=[naming(RequestTraces())])
    app.router.add_route("*", "/other", echo)
    app.router.add_get("/much", write_much)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()

    def connection() -> asyncio.Protocol:
        assert runner.server is not None
        return HttpConnection(runner.server, head_timeout_s=head_timeout_s, unread_s=unread_s)

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()
        await runner.cleanup()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes; where the client still sends to a server that has closed, that is a reset."""
    rest = b""
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(10):
            while piece := await reader.read(MUCH):
                rest += piece
    return rest


def _problem(answer: bytes) -> tuple[int, str]:
    """The status and the code of the only answer, which is a whole problem and the last."""
    head, _, body = answer.partition(b"\r\n\r\n")
    problem = orjson.loads(body)
    assert b"Content-Type: application/problem+json" in head
    assert f"X-Request-Id: {problem['request_id']}".encode() in head
    assert b"Connection: close" in head or head.startswith(b"HTTP/1.0")
    status = re.match(rb"HTTP/1.[01] ([0-9]+)", head)
    assert status is not None
    assert int(status[1]) == problem["status"]
    return problem["status"], problem["code"]


@pytest.mark.parametrize("begun", [b"G", OTHER[:-2], b"GET /other HTTP/1.1\r\nX: " + b"x" * 4000])
async def test_a_head_that_never_ends_is_timed_out(begun: bytes) -> None:
    async with _connected() as (reader, writer):
        writer.write(begun)

        assert _problem(await _rest(reader)) == (408, "request_timeout")


async def test_a_head_that_drips_is_timed_out_all_the_same() -> None:
    async with _connected() as (reader, writer):
        writer.write(OTHER[:-2])
        reading = asyncio.ensure_future(_rest(reader))
        for _ in range(200):
            writer.write(b"X-Drip: 1\r\n")
            done, _pending = await asyncio.wait({reading}, timeout=LATE_S / 4)
            if done:
                break

        assert _problem(await reading) == (408, "request_timeout")


async def test_a_later_head_of_a_connection_has_the_same_bound() -> None:
    async with _connected() as (reader, writer):
        writer.write(OTHER)
        async with asyncio.timeout(5):
            await reader.readuntil(b"<>")
        writer.write(OTHER[:-2])

        assert _problem(await _rest(reader)) == (408, "request_timeout")


async def test_neither_a_slow_body_nor_an_idle_client_is_a_late_head() -> None:
    async with _connected() as (reader, writer):
        for _ in range(2):
            reading = asyncio.ensure_future(reader.readuntil(b"<body>"))
            writer.write(POST[:-4])
            await asyncio.wait({reading}, timeout=2 * LATE_S)
            writer.write(b"body")
            async with asyncio.timeout(5):
                assert (await reading).startswith(b"HTTP/1.1 200")
            idle = asyncio.ensure_future(reader.read(1))
            await asyncio.wait({idle}, timeout=2 * LATE_S)
            assert not idle.done()
            idle.cancel()


async def test_a_client_that_sends_nothing_more_gets_all_its_answers() -> None:
    async with _connected() as (reader, writer):
        writer.write(POST + OTHER + POST)
        writer.write_eof()

        answers = await _rest(reader)
        assert re.findall(rb"<\w*>", answers) == [b"<body>", b"<>", b"<body>"]


@pytest.mark.parametrize("sent", [b"", OTHER[:-2], POST[:-2]])
async def test_a_client_that_ends_before_its_request_does_is_closed(sent: bytes) -> None:
    async with _connected(head_timeout_s=60) as (reader, writer):
        writer.write(sent)
        writer.write_eof()

        assert b"200" not in await _rest(reader)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /other HTTP/1.1\r\n\r\n",
        b"GET /other HTTP/1.1\r\nHost: bank\r\nX-Secret: a\x01b\r\n\r\n",
        b"GET /other HTTP/1.1\r\nHost: bank\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: bank\r\n\r\n",
        b"GET /other HTTP/1.1\r\nHost: bank\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: bank\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\nHost: bank\r\n\r\n",
        POST.replace(b"Host", b"Content-Length: 4\r\nHost"),
        POST.replace(b"Host", b"Content-Length: 5\r\nHost"),
        POST.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost"),
        POST.replace(b"Host", b"Content-Type: text/plain\r\nContent-Type: text/html\r\nHost"),
        POST.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked"),
        POST.replace(b"Host", b"Expect: miracles\r\nConnection: close\r\nHost"),
    ],
    ids=lambda sent: repr(sent[:60]),
)
async def test_what_is_no_http_is_a_problem_that_repeats_nothing(sent: bytes) -> None:
    async with _connected() as (reader, writer):
        writer.write(sent)
        writer.write_eof()

        answer = await _rest(reader)
        assert _problem(answer) == (400, "malformed_request")
        assert b"xxx" not in answer
        assert b"Secret" not in answer


async def test_a_client_that_does_not_read_its_answer_is_cut() -> None:
    cut = REGISTRY.get_sample_value(_CUT) or 0
    async with _connected(unread_s=0.2) as (reader, writer):
        writer.write(b"GET /much HTTP/1.1\r\nHost: bank\r\n\r\n")

        async def is_cut() -> bool:
            return REGISTRY.get_sample_value(_CUT) == cut + 1

        await eventually(is_cut, what="it is cut", within_s=10)
        received = 0
        with suppress(ConnectionResetError):
            received = len(await _rest(reader))
        assert received < MUCH


async def test_a_client_that_reads_a_large_answer_gets_it_whole() -> None:
    async with _connected(unread_s=10) as (reader, writer):
        writer.write(b"GET /much HTTP/1.1\r\nHost: bank\r\nConnection: close\r\n\r\n")

        assert len((await _rest(reader)).partition(b"\r\n\r\n")[2]) == MUCH
