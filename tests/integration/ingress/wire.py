"""Bytes in and bytes out: requests that no client library would send."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.integration.ingress.serving import CheckedDoors

_BODILESS: Final = re.compile(rb"HTTP/1\.1 (204|304) ")


class Wire:
    """One connection, with bytes in and bytes out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes, *, is_end: bool = False) -> bytes:
        """Send a request and return its whole answer; `is_end` closes the sending side."""
        self._writer.write(request)
        if is_end:
            self._writer.write_eof()
        async with asyncio.timeout(20):
            head = await self._reader.readuntil(b"\r\n\r\n")
            if _BODILESS.match(head):
                return head
            length = re.search(rb"Content-Length: ([0-9]+)", head)
            assert length is not None, head
            return head + await self._reader.readexactly(int(length[1]))


@asynccontextmanager
async def wire_to(doors: CheckedDoors) -> AsyncIterator[Wire]:
    host, _, port = doors.system.http_url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
