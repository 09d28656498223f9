"""Connections of the fast path, over real sockets, with aiohttp behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from aiohttp import web

from ingress.http.connection import HttpConnection
from ingress.http.fast_path.connection import Caller, FastPath, Request
from tests.support import eventually

_BODY: Final = b'{"n": 1}'
SUBMIT: Final = b"POST /v1/transactions HTTP/1.1\r\nHost: bank\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)
OTHER: Final = b"GET /other HTTP/1.1\r\nHost: bank\r\n\r\n"


@dataclass
class Held:
    """Calls that are answered when the test says so."""

    callers: list[Caller] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def is_known(self, request: Request) -> bool:
        return "x-unknown" not in request.headers

    def begin(self, request: Request, caller: Caller) -> None:
        self.bodies.append(request.body)
        self.callers.append(caller)
        self.arrived.set()

    async def next_caller(self) -> Caller:
        async with asyncio.timeout(5):
            while not self.callers:
                self.arrived.clear()
                await self.arrived.wait()
        return self.callers.pop(0)


@dataclass
class Place:
    """A fast path that listens, and the calls that wait for their answers."""

    fast_path: FastPath
    calls: Held
    port: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def has_begun(self) -> bool:
        """Whether something of a request has come."""
        return any(one.is_busy for one in self.fast_path.connections)

    async def is_left(self) -> bool:
        """Whether no connection is in the fast path."""
        return not self.fast_path.connections


@asynccontextmanager
async def _place(**bounds: Any) -> AsyncIterator[Place]:
    """`bounds` are the fast path's."""

    async def tell(request: web.Request) -> web.Response:
        return web.Response(body=b"aiohttp:" + await request.read())

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", tell)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    calls = Held()

    def fallback() -> HttpConnection:
        assert runner.server is not None
        return HttpConnection(runner.server)

    fast_path = FastPath(calls, fallback=fallback, **bounds)
    server = await asyncio.get_running_loop().create_server(fast_path, "127.0.0.1", 0)
    looking = asyncio.create_task(fast_path.run())
    try:
        yield Place(fast_path, calls, server.sockets[0].getsockname()[1])
    finally:
        looking.cancel()
        server.close()
        await runner.cleanup()


async def _read_until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    async with asyncio.timeout(5):
        return await reader.readuntil(end)


async def test_a_request_in_pieces_is_one_request() -> None:
    async with _place() as place:
        reader, writer = await place.connect()
        for piece in (SUBMIT[:40], SUBMIT[40:-3], SUBMIT[-3:]):
            writer.write(piece)
            await asyncio.sleep(0)
        (await place.calls.next_caller()).answer(b"one;")

        assert await _read_until(reader, b";") == b"one;"
        assert place.calls.bodies == [_BODY]
        writer.close()


async def test_what_comes_behind_a_request_waits_for_its_answer() -> None:
    async with _place() as place:
        reader, writer = await place.connect()
        writer.write(SUBMIT)
        first = await place.calls.next_caller()
        writer.write(SUBMIT + OTHER)
        first.answer(b"one;")

        assert await _read_until(reader, b";") == b"one;"
        assert (await _read_until(reader, b"aiohttp:")).startswith(b"HTTP/1.1 200 OK")
        assert await _read_until(reader, _BODY) == _BODY
        assert await _read_until(reader, b"aiohttp:")
        assert place.calls.bodies == [_BODY]
        writer.close()


async def test_a_connection_that_was_handed_over_stays_with_aiohttp() -> None:
    async with _place() as place:
        reader, writer = await place.connect()
        for sent in (OTHER, SUBMIT):
            writer.write(sent)
            assert await _read_until(reader, b"aiohttp:")
        assert not place.calls.bodies
        assert not place.fast_path.connections
        writer.close()


async def test_an_unknown_call_is_aiohttps_with_all_that_was_sent() -> None:
    async with _place() as place:
        reader, writer = await place.connect()
        writer.write(SUBMIT.replace(b"Host: bank", b"Host: bank\r\nX-Unknown: 1"))

        assert await _read_until(reader, b"aiohttp:")
        assert await _read_until(reader, _BODY) == _BODY
        writer.close()


async def test_a_request_that_is_slow_to_come_is_aiohttps() -> None:
    async with _place() as place:
        reader, writer = await place.connect()
        writer.write(SUBMIT[:-1])
        await eventually(place.has_begun, what="a part of the request is there")
        await eventually(place.is_left, what="the connection is handed over")
        writer.write(SUBMIT[-1:])

        assert await _read_until(reader, b"aiohttp:")
        assert await _read_until(reader, _BODY) == _BODY
        writer.close()


async def test_a_drain_answers_what_is_at_work_and_closes_what_is_idle() -> None:
    async with _place() as place:
        idle_reader, idle_writer = await place.connect()
        reader, writer = await place.connect()
        writer.write(SUBMIT)
        caller = await place.calls.next_caller()
        draining = asyncio.create_task(place.fast_path.drain())

        assert await idle_reader.read() == b""
        assert not draining.done()
        caller.answer(b"one;")
        async with asyncio.timeout(5):
            assert await reader.read() == b"one;"
            await draining
        for one in (writer, idle_writer):
            one.close()


async def test_an_answer_to_a_client_that_is_gone_is_dropped() -> None:
    async with _place() as place:
        _, writer = await place.connect()
        writer.write(SUBMIT)
        caller = await place.calls.next_caller()
        writer.close()
        await writer.wait_closed()
        caller.answer(b"one;")
        await eventually(place.is_left, what="the connection is closed")


async def test_a_client_that_sends_nothing_more_gets_its_answer_and_is_closed() -> None:
    async with _place() as place:
        reader, writer = await place.connect()
        writer.write(SUBMIT)
        writer.write_eof()
        (await place.calls.next_caller()).answer(b"one;")

        async with asyncio.timeout(5):
            assert await reader.read() == b"one;"
        await eventually(place.is_left, what="the connection is closed")
        writer.close()


async def test_all_that_came_before_the_end_is_answered() -> None:
    async with _place() as place:
        reader, writer = await place.connect()
        writer.write(SUBMIT)
        first = await place.calls.next_caller()
        writer.write(SUBMIT + OTHER)
        writer.write_eof()
        first.answer(b"one;")

        async with asyncio.timeout(5):
            answers = await reader.read()
        assert answers.startswith(b"one;HTTP/1.1 200 OK")
        assert answers.count(b"aiohttp:") == 2
        writer.close()


@pytest.mark.parametrize("sent", [b"", SUBMIT[:-1], SUBMIT[:40]])
async def test_a_client_that_ends_before_its_request_does_is_closed(sent: bytes) -> None:
    async with _place() as place:
        reader, writer = await place.connect()
        writer.write(sent)
        writer.write_eof()

        async with asyncio.timeout(5):
            assert await reader.read() == b""
        assert not place.calls.bodies
        writer.close()


async def test_a_client_that_does_not_read_is_not_served_any_further() -> None:
    async with _place() as place:
        reader, writer = await place.connect()
        writer.write(SUBMIT)
        # More than the buffers of two sockets hold.
        (await place.calls.next_caller()).answer(b"x" * 16_000_000 + b";")
        writer.write(SUBMIT)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not place.calls.callers

        received = 0
        async with asyncio.timeout(20):
            while received < 16_000_001:
                received += len(await reader.read(1_000_000))
        (await place.calls.next_caller()).answer(b"two;")
        assert await _read_until(reader, b";") == b"two;"
        writer.close()


async def _is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closes within a bound; what it sent before is thrown away."""
    try:
        async with asyncio.timeout(10):
            while await reader.read(65536):
                pass
    except ConnectionResetError:
        return True
    return True


async def test_a_connection_on_which_nothing_happens_is_closed() -> None:
    async with _place(idle_s=0.2) as place:
        reader, writer = await place.connect()
        other, other_writer = await place.connect()
        other_writer.write(OTHER)
        await _read_until(other, b"aiohttp:")

        assert await _is_closed(reader)
        assert await _is_closed(other)
        writer.close()
        other_writer.close()


async def test_a_client_that_does_not_read_its_answer_is_cut() -> None:
    async with _place(unread_s=0.2) as place:
        _, writer = await place.connect()
        writer.write(SUBMIT)
        (await place.calls.next_caller()).answer(b"x" * 50_000_000)

        await eventually(place.is_left, what="it is cut", within_s=10)
        writer.close()


async def test_a_client_that_reads_slowly_gets_its_whole_answer() -> None:
    async with _place(unread_s=2) as place:
        reader, writer = await place.connect()
        writer.write(SUBMIT)
        answer = b"x" * 8_000_000
        (await place.calls.next_caller()).answer(answer)
        received = 0
        while received < len(answer):
            received += len(await reader.read(4_000))
            await asyncio.sleep(0)

        assert received == len(answer)
        writer.close()


async def test_more_connections_than_there_may_be_are_closed_as_they_come() -> None:
    async with _place(connections_max=4, idle_s=3600) as place:
        kept = [await place.connect() for _ in range(4)]
        kept[0][1].write(OTHER)
        await _read_until(kept[0][0], b"aiohttp:")
        reader, writer = await place.connect()
        assert await _is_closed(reader)
        writer.close()

        # One that was handed over counts until it is closed, and then makes room.
        kept[0][1].close()

        async def is_served() -> bool:
            reader, writer = await place.connect()
            writer.write(OTHER)
            try:
                await reader.readuntil(b"aiohttp:")
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return False
            finally:
                writer.close()
            return True

        await eventually(is_served, what="there is room again", within_s=5)
        for _, writer in kept:
            writer.close()


async def test_idle_connections_make_room_before_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingress.http.fast_path.connection.CROWDED_IDLE_S", 0.1)
    async with _place(connections_max=4, idle_s=3600) as place:
        three = [await place.connect() for _ in range(3)]
        three[0][1].write(OTHER)
        await _read_until(three[0][0], b"aiohttp:")
        fourth = await place.connect()

        for reader, _ in [*three, fourth]:
            assert await _is_closed(reader)
        for _, writer in [*three, fourth]:
            writer.close()
