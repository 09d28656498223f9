"""A cable to a server that can be cut in the middle of whatever goes through it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from yarl import URL

_CHUNK = 64 * 1024


class Cable:
    """Forwards connections; `cut` ends them as a network does: without a word."""

    def __init__(self, url: str) -> None:
        self._target = URL(url)
        self._writers: list[asyncio.StreamWriter] = []
        self.url = ""

    def cut(self) -> None:
        """End every connection; new ones are forwarded again."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        with suppress(OSError):
            there = await asyncio.open_connection(self._target.host, self._target.port)
            self._writers += [writer, there[1]]
            await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def cable_to(url: str) -> AsyncIterator[Cable]:
    """Give a cable to the server of a URL; its own URL leads through it."""
    cable = Cable(url)
    server = await asyncio.start_server(cable.forward, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cable.url = str(URL(url).with_host("127.0.0.1").with_port(port))
    try:
        yield cable
    finally:
        cable.cut()
        server.close()
        await server.wait_closed()
