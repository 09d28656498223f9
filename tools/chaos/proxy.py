"""A TCP proxy in front of one server, for one role: what a network does, on order.

It forwards until it is told otherwise: slowly, not at all, without the answers, or up to a certain
message. What it holds is bounded by its reading buffers; behind them the senders wait.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Self, TypeAlias

from yarl import URL

from tools.stack.ports import HOST, choose_ports

CHUNK_BYTES: Final = 64 * 1024
"""The most that is read at once, and so about what one direction of a connection holds."""

_Gate: TypeAlias = Callable[[bytes], bool]
"""Looks at what goes past, and tells whether it may."""


class Trap:
    """A pattern that a client sends. What carries it is forwarded; the answer never comes back."""

    def __init__(self, pattern: bytes) -> None:
        self.pattern = pattern
        self.sprung = asyncio.Event()


class Proxy:
    """One listening port that leads to one server."""

    def __init__(self, *, host: str, port: int) -> None:
        """`host` and `port` are the server's; the proxy's own port is known once it is open."""
        self.target = (host, port)
        self.port = 0
        self.latency_s = 0.0
        self.chunk_bytes = CHUNK_BYTES
        self.is_refusing = False
        self.is_swallowing_answers = False
        self.is_swallowing_requests = False
        self.trap: Trap | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    def to(cls, url: str) -> Self:
        """Return a proxy to the server of a URL."""
        server = URL(url)
        return cls(host=server.host or HOST, port=server.port or 0)

    def through(self, url: str) -> str:
        """Return a URL of the server as it is for those who come through the open proxy."""
        return str(URL(url).with_host(HOST).with_port(self.port))

    async def __aenter__(self) -> Self:
        # Below the ephemeral ports: a client of a closed proxy must not end up on its port.
        self.port = choose_ports(["proxy"], previous={})["proxy"]
        self._server = await asyncio.start_server(self._serve, HOST, self.port, limit=CHUNK_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_refusing = True
        if self._server is not None:
            self._server.close()
        while self._connections:
            tasks = {connection.task for connection in self._connections}
            self.flowing.set()
            self.cut()
            await asyncio.wait(tasks, timeout=1.0)

    def cut(self) -> None:
        """End every connection as a failing network does: without a word."""
        for connection in self._connections:
            connection.cut()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """End every connection and take no new one."""
        self.is_refusing = True
        self.cut()
        try:
            yield
        finally:
            self.is_refusing = False

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Let connections stand, and nothing pass; what was sent arrives afterwards."""
        self.flowing.clear()
        try:
            yield
        finally:
            self.flowing.set()

    @contextmanager
    def swallowing_answers(self) -> Iterator[None]:
        """Forward what clients say and lose what the server answers; then cut, so they know."""
        self.is_swallowing_answers = True
        try:
            yield
        finally:
            self.cut()
            self.is_swallowing_answers = False

    @contextmanager
    def swallowing(self) -> Iterator[None]:
        """Lose what both sides say, on connections that stand; then cut, so they know."""
        self.is_swallowing_requests = True
        try:
            with self.swallowing_answers():
                yield
        finally:
            self.is_swallowing_requests = False

    @contextmanager
    def half_open(self) -> Iterator[None]:
        """End the servers' sides without a word to the clients, whose sides stand and lead nowhere.

        Connections made meanwhile lead nowhere either.
        """
        self.is_swallowing_requests = True
        try:
            with self.swallowing_answers():
                for connection in self._connections:
                    connection.leave_server()
                yield
        finally:
            self.is_swallowing_requests = False

    @contextmanager
    def slow(self, *, latency_s: float, chunk_bytes: int) -> Iterator[None]:
        """Forward small pieces, each late."""
        self.latency_s, self.chunk_bytes = latency_s, chunk_bytes
        try:
            yield
        finally:
            self.latency_s, self.chunk_bytes = 0.0, CHUNK_BYTES

    @contextmanager
    def trapped(self, pattern: bytes) -> Iterator[Trap]:
        """Cut the first connection whose client sends `pattern`, once the server has answered."""
        self.trap = Trap(pattern)
        try:
            yield self.trap
        finally:
            self.trap = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if self.is_refusing or task is None:
            writer.transport.abort()
            return
        connection = _Connection(self, reader, writer, task)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class _Connection:
    """A client's connection and the one that was made for it."""

    def __init__(
        self,
        proxy: Proxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        task: "asyncio.Task[None]",
    ) -> None:
        self.task = task
        self._proxy = proxy
        self._reader = reader
        self._writers = [writer]
        self._sprung: Trap | None = None
        self._is_half_open = False

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def leave_server(self) -> None:
        """End the server's side; the client's stands until it is cut."""
        self._is_half_open = True
        for writer in self._writers[1:]:
            writer.transport.abort()

    async def run(self) -> None:
        """Forward both ways until one side is gone; losses are the clients' business."""
        try:
            # RuntimeError: what uvloop says of a connection that was cut under it.
            with suppress(OSError, RuntimeError):
                host, port = self._proxy.target
                reader, writer = await asyncio.open_connection(host, port, limit=CHUNK_BYTES)
                self._writers.append(writer)
                await asyncio.gather(
                    self._pump(self._reader, writer, self._requests()),
                    self._answer(reader),
                )
        finally:
            self.cut()

    async def _answer(self, reader: asyncio.StreamReader) -> None:
        """Forward the answers; the end of a half-open connection is told to nobody."""
        try:
            await self._pump(reader, self._writers[0], self._answers())
        except (OSError, RuntimeError):
            if not self._is_half_open:
                raise

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: _Gate
    ) -> None:
        proxy = self._proxy
        while data := await reader.read(proxy.chunk_bytes):
            if proxy.latency_s:
                await asyncio.sleep(proxy.latency_s)
            await proxy.flowing.wait()
            if passes(data) and not self._is_half_open:
                writer.write(data)
                await writer.drain()
        if not self._is_half_open and not writer.is_closing() and writer.can_write_eof():
            writer.write_eof()

    def _requests(self) -> _Gate:
        tail = b""

        def passes(data: bytes) -> bool:
            nonlocal tail
            trap = self._proxy.trap
            if trap is not None and self._sprung is None:
                seen = tail + data
                if trap.pattern in seen:
                    # Only one connection is trapped.
                    self._sprung, self._proxy.trap = trap, None
                tail = seen[-len(trap.pattern) :]
            return not self._proxy.is_swallowing_requests

        return passes

    def _answers(self) -> _Gate:
        def passes(_: bytes) -> bool:
            if self._sprung is not None:
                # The server has done it, and nobody will know.
                self.cut()
                self._sprung.sprung.set()
                return False
            return not self._proxy.is_swallowing_answers

        return passes
