"""A line to a server that can be unplugged, and that can fall silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from yarl import URL

_CHUNK = 64 * 1024


class Line:
    """Forwards connections. Unplugged, it ends them and every new one; silent, it holds bytes."""

    def __init__(self, url: str) -> None:
        self._target = URL(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._speaking = asyncio.Event()
        self._speaking.set()
        self._is_plugged = True
        self.url = ""

    def unplug(self) -> None:
        """End every connection and take no new one, as a server that is down."""
        self._is_plugged = False
        for writer in self._writers:
            writer.transport.abort()

    def fall_silent(self) -> None:
        """Forward nothing in either direction, as a network that swallows packets."""
        self._speaking.clear()

    def plug(self) -> None:
        """Forward again."""
        self._is_plugged = True
        self._speaking.set()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self._writers.add(writer)
        try:
            if self._is_plugged:
                with suppress(OSError):
                    await self._connect(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection(self._target.host, self._target.port)
        self._writers.add(there)
        try:
            await asyncio.gather(self._copy(reader, there), self._copy(there_reader, writer))
        finally:
            self._writers.discard(there)
            there.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._speaking.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@asynccontextmanager
async def line_to(url: str) -> AsyncIterator[Line]:
    """Give a line to the server of a URL; its own URL leads through it."""
    line = Line(url)
    server = await asyncio.start_server(line.forward, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    line.url = str(URL(url).with_host("127.0.0.1").with_port(port))
    try:
        yield line
    finally:
        line.plug()
        line.unplug()
        server.close()
        await server.wait_closed()
